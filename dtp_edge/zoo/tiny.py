"""Networks of microcontroller size: MLPerf Tiny's image and keyword classifiers, and the demo's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TinyBlock(nn.Module):
    """MLPerf Tiny's residual block: 3x3, 3x3, and a bare 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(width)
        plain = stride == 1 and channels == width
        self.shortcut = nn.Identity() if plain else nn.Conv2d(channels, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ResNet8(nn.Module):
    """MLPerf Tiny's image classifier, `[B, in_channels, 32, 32] -> [B, classes]`."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(TinyBlock(16, 16, 1), TinyBlock(16, 32, 2), TinyBlock(32, 64, 2))
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))


class DsCnn(nn.Module):
    """MLPerf Tiny's keyword spotter, `[B, 1, 49, 10] -> [B, classes]` (padding symmetric, not TF's SAME)."""

    def __init__(self, num_classes: int = 12, in_channels: int = 1, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, (10, 4), 2, (5, 1)), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.Dropout(0.2)]
        for _ in range(blocks):
            layers += [nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Dropout(0.4))
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1))


class DemoNet(nn.Module):
    """The demo's digit reader, `[B, 1, 32, 32] -> [B, classes]`.

    Small enough to train in half a minute on two cores, large enough that one inference takes a
    millisecond or more, far above timer noise.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, widths: tuple[int, ...] = (64, 128)
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        blocks: list[nn.Module] = []
        for stage, width in enumerate(widths):
            blocks.append(TinyBlock(channels, width, 1 if stage == 0 else 2))
            blocks.append(TinyBlock(width, width, 1))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))
