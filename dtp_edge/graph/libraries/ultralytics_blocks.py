"""Ultralytics' blocks that halve their first convolution's output, for halves of unequal size.

Imported only where one of its networks is at hand, so the package is there. The classes stand at the top so
that a checkpoint of a pruned network, which names them, can be read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.modules.block import C2PSA, C2f, C3k2

__all__ = ["UnevenC2PSA", "UnevenC2f", "UnevenC3k2", "uneven"]


class UnevenC2f(C2f):
    """Of what comes out of `cv1`, `parts[0]` channels pass by and `parts[1]` go through the blocks."""

    parts: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        past, through = self.cv1(x).split(self.parts, 1)
        found = [past, through]
        for block in self.m:
            found.append(block(found[-1]))
        return self.cv2(torch.cat(found, 1))

    forward_split = forward  # the name that Ultralytics' exporter calls


class UnevenC3k2(UnevenC2f, C3k2):
    """The same with other blocks inside."""


class UnevenC2PSA(C2PSA):
    """Attention over `parts[1]` channels, `parts[0]` of them pass by."""

    parts: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        past, through = self.cv1(x).split(self.parts, 1)
        return self.cv2(torch.cat((past, self.m(through)), 1))


_KINDS: dict[type, type] = {C2f: UnevenC2f, C3k2: UnevenC3k2, C2PSA: UnevenC2PSA}


def uneven(kind: type) -> Any:
    """Return the class for unequal halves of a class of blocks; None for any other class."""
    return _KINDS.get(kind)
