"""Tensors made of nothing: constant fillings take any label, anything else takes none."""

from __future__ import annotations

from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.values import UNSET, Context, Value


@rule("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "empty", "new_empty", "scalar_tensor")
def filled(ctx: Context, a: Arguments, out: Value) -> None:
    """Every index holds the same number, so any of them can go; the batch dimension stays."""
    for dim in range(out.rank):
        out.labels[dim] = None if out.fixed[dim] or out.shape[dim] == 1 else UNSET


@rule("arange", "linspace", "eye", "rand", "randn", "tril_indices", "triu_indices")
def numbered(ctx: Context, a: Arguments, out: Value) -> None:
    """What an index holds depends on its number: nothing can go."""
    out.labels[:] = [None] * out.rank
