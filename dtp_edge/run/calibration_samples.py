"""How many samples batches hold, and the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["first_samples", "samples_of"]

Batch = tuple[Any, ...]


def samples_of(batches: Sequence[Batch]) -> int:
    """How many samples the batches hold together."""
    return sum(len(next(t for t in tree_leaves(b) if isinstance(t, Tensor))) for b in batches)


def first_samples(batches: Sequence[Batch], most: int) -> list[Batch]:
    """The first batches that hold `most` samples or a little more."""
    found: list[Batch] = []
    for batch in batches:
        found.append(batch)
        if samples_of(found) >= most:
            break
    return found
