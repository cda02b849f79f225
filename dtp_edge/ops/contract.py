"""Sums over a dimension that two tensors share: equal on both sides, masked on one."""

from __future__ import annotations

from dtp_edge.ops.values import UNSET, Context, Value


def multiply(ctx: Context, x: Value, x_dim: int, y: Value, y_dim: int, first: int = 0) -> None:
    """Contract dimension `x_dim` of x with `y_dim` of y, arguments `first` and `first + 1` of the node."""
    if x.source is not None:  # a table: what it holds is its own, not made by the weight that reads it
        ctx.read(x, x_dim)
    if x.labels[x_dim] is UNSET:
        ctx.bind(x, x_dim, ctx.read(y, y_dim))
    ctx.bind(y, y_dim, x.labels[x_dim])
    if y.source is not None or x.source is None:
        ctx.contract(y, y_dim, first + 1)
    else:
        ctx.contract(x, x_dim, first)


def attention_roles(ctx: Context, x: Value, y: Value) -> None:
    """The product of two activations is attention: scores q k^T or their product with the values."""
    for value in (x, y):
        for dim in range(value.rank - 2):
            ctx.role(value, dim, "heads")
    ctx.role(x, x.rank - 1, "query-key")
    ctx.role(x, x.rank - 2, "value")
    ctx.role(y, y.rank - 1, "value")
