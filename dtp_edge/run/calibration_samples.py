"""How many samples batches hold, the first of them, and batches of a size that is quick to compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import carries_batch

__all__ = ["first_samples", "in_small_batches", "samples_of"]

NUMBERS = 2**20  # of inputs in a batch: 6 pictures of 224 x 224, 341 of 32 x 32
Batch = tuple[Any, ...]


def samples_of(batches: Sequence[Batch]) -> int:
    """How many samples the batches hold together."""
    return sum(len(next(t for t in tree_leaves(b) if isinstance(t, Tensor))) for b in batches)


def first_samples(
    batches: Sequence[Batch], most: int, network: PrunableNetwork, skip: int = 0
) -> list[Batch]:
    """The first `most` samples behind `skip` others; whole batches, so a few more, of a network that takes no
    other."""
    found, at = [], 0
    for batch in batches:
        count = samples_of([batch])
        begin, end = max(skip - at, 0), min(skip + most - at, count)
        if begin < end:
            whole = end - begin == count or not network.dynamic_batch
            found.append(batch if whole else _rows(batch, begin, end))
        at += count
    return found


def in_small_batches(batches: Sequence[Batch], network: PrunableNetwork) -> list[Batch]:
    """The same samples, in batches of at most `NUMBERS` inputs where the network takes any batch.

    What the layers make of many large pictures at once leaves the caches, and is mapped anew by the allocator
    each time: MobileNetV2 at 224 x 224 takes 2.7 times as long for a picture in batches of 32 as of 2.
    """
    if not network.dynamic_batch:
        return list(batches)
    found = []
    for batch in batches:
        count = samples_of([batch])
        numbers = sum(t.numel() for t in tree_leaves(batch) if isinstance(t, Tensor)) // count
        each = max(1, NUMBERS // max(1, numbers))
        found += [_rows(batch, first, first + each) for first in range(0, count, each)]
    return found


def _rows(batch: Batch, first: int, end: int) -> Batch:
    count = samples_of([batch])
    return tree_map(lambda t: t[first:end] if carries_batch(t, count) else t, batch)
