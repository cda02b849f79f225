"""Ultralytics' blocks that halve their first convolution's output, for halves of unequal size.

Imported only where one of its networks is at hand, so the package is there. The classes stand at the top so
that a checkpoint of a pruned network, which names them, can be read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.modules.block import C2PSA, Attention, C2f, C3k2

__all__ = ["UnevenAttention", "UnevenC2PSA", "UnevenC2f", "UnevenC3k2", "uneven", "uneven_attention"]


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


class UnevenAttention(Attention):
    """Attention whose values are wider or narrower than its input."""

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        sizes = (self.key_dim, self.key_dim, self.head_dim)
        heads = self.qkv(x).view(batch, self.num_heads, sum(sizes), height * width)
        query, key, value = heads.split(sizes, 2)
        weights = ((query.transpose(2, 3) @ key) * self.scale).softmax(-1)
        seen = (value @ weights.transpose(2, 3)).reshape(batch, -1, height, width)
        return self.proj(seen + self.pe(value.reshape(batch, -1, height, width)))


_KINDS: dict[type, type] = {C2f: UnevenC2f, C3k2: UnevenC3k2, C2PSA: UnevenC2PSA}


def uneven_attention(part: Any) -> Any:
    """Return the class for an attention whose values are not as wide as its input; None for all else."""
    if type(part) is not Attention:
        return None
    read, given = (conv.conv.weight.shape[1] for conv in (part.qkv, part.proj))
    return None if read == given else UnevenAttention


def uneven(kind: type) -> Any:
    """Return the class for unequal halves of a class of blocks; None for any other class."""
    return _KINDS.get(kind)
