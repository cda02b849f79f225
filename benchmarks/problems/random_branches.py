"""Random networks of branches within branches: what an addition can do without, in every way to write it.

A network is drawn from its seed: a few additions in a row, each of a random form, whose functions are made of
the blocks of `random_networks` and of further additions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.problems.random_networks import IMAGE_BLOCKS, TOKEN_BLOCKS, Do, conv, even

Maker = Callable[[random.Random, int, int], nn.Module]


def function(r: random.Random, c: int, depth: int) -> nn.Module:
    """Return something from c channels to c: blocks at random, further additions, an end of some kind."""
    parts: list[nn.Module] = []
    if depth > 0 and r.random() < 0.7:
        parts.append(addition(r, c, depth - 1))
    width = c
    if r.random() < 0.5:
        name = r.choice(sorted(IMAGE_BLOCKS))
        block, width = IMAGE_BLOCKS[name](r, width)
        parts.append(block)
    end = r.choice(["norm", "convolution", "activation", "any", "scaled", "dropout"])
    if end == "any":
        parts.append(conv(r, width, c))
        return nn.Sequential(*parts)
    parts.append(nn.Conv2d(width, c, 3, padding=1, bias=r.random() < 0.5))
    if end in ("norm", "activation"):
        parts.append(nn.BatchNorm2d(c, affine=r.random() < 0.8))
    if end == "activation":
        parts.append(r.choice([nn.ReLU(), nn.ReLU(inplace=True), nn.Hardswish(), nn.ReLU6(inplace=True)]))
    if end == "scaled":
        return Do(lambda s, x: s.g * s.m(x), g=nn.Parameter(torch.randn(c, 1, 1)), m=nn.Sequential(*parts))
    if end == "dropout":
        parts.append(nn.Dropout(0.1))
    return nn.Sequential(*parts)


def plain(r: random.Random, c: int, depth: int) -> nn.Module:
    run = r.choice([lambda s, x: x + s.f(x), lambda s, x: s.f(x) + x])
    return Do(run, f=function(r, c, depth))


def in_place(r: random.Random, c: int, depth: int) -> nn.Module:
    """Writes to its own result, to what it was given a copy of, or behind the addition."""

    def onto_own(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = s.f(x) * 1.5
        y += x
        return y

    def onto_stream(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = x * 0.5
        y += s.f(y)
        return y.relu_()

    def behind(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = x + s.f(x)
        y[:, :2] *= 2.0
        return y.relu_() - x

    return Do(r.choice([onto_own, onto_stream, behind]), f=function(r, c, depth))


def activated(r: random.Random, c: int, depth: int) -> nn.Module:
    """A block of ResNet: the activation stands behind the addition, and before it too, or not."""
    act = r.choice([nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.SiLU()])
    before = r.choice([nn.ReLU(), nn.ReLU6(), nn.Identity(), nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 1, 1))])
    if r.random() < 0.5:
        return nn.Sequential(before, Do(lambda s, x: s.a(s.f(x) + x), a=act, f=function(r, c, depth)))
    return Do(lambda s, x: s.a(s.b(x) + s.f(x)), a=act, b=before, f=function(r, c, depth))


def projected(r: random.Random, c: int, depth: int) -> nn.Module:
    shortcut = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))
    return Do(lambda s, x: s.f(x) + s.g(x), f=function(r, c, depth), g=shortcut)


def three(r: random.Random, c: int, depth: int) -> nn.Module:
    return Do(lambda s, x: x + s.f(x) + s.g(x), f=function(r, c, depth), g=function(r, c, 0))


def factor(r: random.Random, c: int, depth: int) -> nn.Module:
    run = r.choice(
        [
            lambda s, x: torch.add(x, s.f(x), alpha=0.7),
            lambda s, x: torch.add(s.f(x), x, alpha=0.7),
            lambda s, x: x + 0.3 * s.f(x),
            lambda s, x: x - s.f(x),
            lambda s, x: torch.lerp(x, s.f(x), 0.4),
        ]
    )
    return Do(run, f=function(r, c, depth))


def down_and_up(r: random.Random, c: int, depth: int) -> nn.Module:
    """One level of a U-Net that adds; its skip has a convolution, or has none."""
    skip = r.choice([nn.Identity(), nn.Conv2d(c, c, 1)])
    return Do(
        lambda s, x: F.interpolate(s.f(F.avg_pool2d(x, 2)), scale_factor=2, mode="nearest") + s.k(x),
        f=nn.Sequential(conv(r, c, c), conv(r, c, c)),
        k=skip,
    )


def split_stream(r: random.Random, c: int, depth: int) -> nn.Module:
    """C2f: a chain of additions of which every link is read at the end."""
    h = r.randint(2, 4)

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        parts = list(s.enter(x).chunk(2, 1))
        for m in s.ms:
            parts.append(parts[-1] + m(parts[-1]))
        return s.leave(torch.cat(parts, 1))

    ms = nn.ModuleList(function(r, h, 0) for _ in range(2))
    return Do(run, enter=conv(r, c, 2 * h), ms=ms, leave=conv(r, 4 * h, c))


def shared(r: random.Random, c: int, depth: int) -> nn.Module:
    """One function twice, or one look-up that two branches read."""
    twice = function(r, c, 0)
    if r.random() < 0.5:
        return Do(lambda s, x: (lambda y: y + s.f(y))(x + s.f(x)), f=twice)
    return Do(
        lambda s, x: (lambda w: (lambda y: y + s.g(y * w))(x + s.f(x * w)))(s.t.sigmoid()),
        f=twice,
        g=function(r, c, 0),
        t=nn.Parameter(torch.randn(c, 1, 1)),
    )


def tokens(r: random.Random, c: int, depth: int) -> nn.Module:
    """A transformer's or conformer's block: norm, part, scale, each time added."""

    def run(s: Any, x: torch.Tensor) -> torch.Tensor:
        y = x.flatten(2).transpose(1, 2)
        for n, part, scale in zip(s.norms, s.parts, s.scales, strict=True):
            y = y + scale * part(n(y))
        return y.transpose(1, 2).unflatten(2, x.shape[2:])

    names = r.choices(["mlp", "attention", "multihead", "gated", "mixer", "sequence"], k=r.randint(1, 3))
    parts = []
    for name in names:
        block, width = TOKEN_BLOCKS[name](r, c)
        parts.append(nn.Sequential(block, nn.Linear(width, c)) if width != c or r.random() < 0.5 else block)
    scales = nn.ParameterList(nn.Parameter(torch.randn(c if r.random() < 0.5 else 1)) for _ in names)
    norms = nn.ModuleList(nn.LayerNorm(c) for _ in names)
    return Do(run, norms=norms, parts=nn.ModuleList(parts), scales=scales)


ADDITIONS: dict[str, Maker] = {
    f.__name__: f
    for f in (
        *(plain, in_place, activated, projected, three, factor, down_and_up, split_stream, shared, tokens),
    )
}


def addition(r: random.Random, c: int, depth: int) -> nn.Module:
    return ADDITIONS[r.choice(sorted(ADDITIONS))](r, c, depth)


class BranchedNetwork(nn.Module):
    """Stem, one to four additions (`forms`, else by chance), head; input [batch, 3, 4, 4]."""

    def __init__(self, seed: int, forms: tuple[str, ...] = (), depth: int = 2) -> None:
        super().__init__()
        r = random.Random(seed)
        torch.manual_seed(seed)
        width = even(r)
        chosen = forms or tuple(r.choice(sorted(ADDITIONS)) for _ in range(r.randint(1, 4)))
        self.stem = conv(r, 3, width)
        self.blocks = nn.ModuleList(ADDITIONS[name](r, width, r.randint(0, depth)) for name in chosen)
        self.both = r.random() < 0.2  # hand out a part of the stream as well
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> Any:
        x = first = self.stem(x)
        for block in self.blocks:
            x = block(x)
        answer = self.head(x.mean((2, 3)))
        return (answer, first) if self.both else answer
