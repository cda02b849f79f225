"""YOLOX (Ge et al., 2021, section 2) in modules of ultralytics, and U-Net with padded convolutions."""

from __future__ import annotations

import itertools

import torch
from torch import nn


def yolox(depth: float, width: float, classes: int = 80) -> nn.Module:
    """Return YOLOX of a depth and a width multiple, up to its three raw maps."""
    return YoloX(depth, width, classes)


class YoloX(nn.Module):
    def __init__(self, depth: float, width: float, classes: int) -> None:
        super().__init__()
        from ultralytics.nn.modules import C3, SPP, Conv, Focus

        base, n = int(64 * width), max(round(3 * depth), 1)
        c = [base << k for k in range(5)]
        self.stem = Focus(3, c[0], 3)
        self.dark2 = nn.Sequential(Conv(c[0], c[1], 3, 2), C3(c[1], c[1], n))
        self.dark3 = nn.Sequential(Conv(c[1], c[2], 3, 2), C3(c[2], c[2], 3 * n))
        self.dark4 = nn.Sequential(Conv(c[2], c[3], 3, 2), C3(c[3], c[3], 3 * n))
        self.dark5 = nn.Sequential(Conv(c[3], c[4], 3, 2), SPP(c[4], c[4]), C3(c[4], c[4], n, False))
        self.up = nn.Upsample(scale_factor=2)
        self.lateral, self.reduce = Conv(c[4], c[3]), Conv(c[3], c[2])
        self.p4, self.p3 = C3(2 * c[3], c[3], n, False), C3(2 * c[2], c[2], n, False)
        self.down3, self.down4 = Conv(c[2], c[2], 3, 2), Conv(c[3], c[3], 3, 2)
        self.n4, self.n5 = C3(2 * c[2], c[3], n, False), C3(2 * c[3], c[4], n, False)
        self.heads = nn.ModuleList(Head(k, int(256 * width), classes) for k in c[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d3 = self.dark3(self.dark2(self.stem(x)))
        d4 = self.dark4(d3)
        f5 = self.lateral(self.dark5(d4))
        f4 = self.reduce(self.p4(torch.cat([self.up(f5), d4], 1)))
        p3 = self.p3(torch.cat([self.up(f4), d3], 1))
        p4 = self.n4(torch.cat([self.down3(p3), f4], 1))
        p5 = self.n5(torch.cat([self.down4(p4), f5], 1))
        maps = [head(p).flatten(2) for head, p in zip(self.heads, (p3, p4, p5), strict=True)]
        return torch.cat(maps, 2).transpose(1, 2)


class Head(nn.Module):
    def __init__(self, cin: int, width: int, classes: int) -> None:
        super().__init__()
        from ultralytics.nn.modules import Conv

        self.stem = Conv(cin, width)
        self.classes = nn.Sequential(Conv(width, width, 3), Conv(width, width, 3))
        self.boxes = nn.Sequential(Conv(width, width, 3), Conv(width, width, 3))
        self.which, self.where, self.there = (nn.Conv2d(width, k, 1) for k in (classes, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        boxes = self.boxes(x)
        return torch.cat(
            [self.where(boxes), self.there(boxes).sigmoid(), self.which(self.classes(x)).sigmoid()], 1
        )


def unet() -> nn.Module:
    """Return U-Net (Ronneberger et al., 2015) with padding and batch norm, up to two classes."""
    return UNet()


def _double(cin: int, cout: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for channels in (cin, cout):
        parts += [nn.Conv2d(channels, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
    return nn.Sequential(*parts)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [64, 128, 256, 512, 1024]
        self.first = _double(3, 64)
        self.downs = nn.ModuleList(_double(a, b) for a, b in itertools.pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        back = widths[::-1]
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in itertools.pairwise(back))
        self.merges = nn.ModuleList(_double(a, b) for a, b in itertools.pairwise(back))
        self.last = nn.Conv2d(64, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = [self.first(x)]
        for down in self.downs:
            kept.append(down(self.pool(kept[-1])))
        x = kept.pop()
        for up, merge in zip(self.ups, self.merges, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], 1))
        return self.last(x)
