"""Batches of the sizes that a network was traced with: its graph runs with no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import batch_of

__all__ = ["as_traced", "fits"]

Batch = tuple[Any, ...]


def fits(network: PrunableNetwork, batch: Batch, *, rows: bool = True) -> bool:
    """Return whether the graph runs on a batch: its tensors have the example's sizes but for a free batch.

    Without `rows` the number of samples does not count.
    """
    first = 1 if network.dynamic_batch or not rows else 0
    got, want = tree_leaves(batch), tree_leaves(network.example_inputs)
    return len(got) == len(want) and all(
        not isinstance(wanted, Tensor)
        or (isinstance(given, Tensor) and given.shape[first:] == wanted.shape[first:])
        for given, wanted in zip(got, want, strict=True)
    )


def as_traced(network: PrunableNetwork, batches: Sequence[Batch]) -> list[Batch]:
    """Return the batches that the graph can run; where the batch is not free, cut to its size."""
    if network.dynamic_batch:
        return [batch for batch in batches if fits(network, batch)]
    size = batch_of(network.example_inputs) or 1
    cut = [
        tree_map(lambda t, i=i: t[i : i + size] if isinstance(t, Tensor) and t.dim() else t, batch)
        for batch in batches
        for i in range(0, batch_of(batch) or 0, size)
    ]
    return [batch for batch in cut if fits(network, batch)]
