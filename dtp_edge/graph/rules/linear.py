"""Products with a matrix: contracted dimensions are equal, the others pass through."""

from __future__ import annotations

from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.rules.elementwise import broadcast
from dtp_edge.graph.values import UNSET, Context, Value


@rule("linear")
def linear(ctx: Context, a: Arguments, out: Value) -> None:
    x, weight = ctx.value(a["input"]), ctx.value(a["weight"])
    multiply(ctx, x, x.rank - 1, weight, 1)
    out.labels[:-1] = [ctx.read(x, d) for d in range(x.rank - 1)]
    if weight.rank == 1:
        return
    out.labels[-1] = ctx.read(weight, 0)
    if a["bias"] is not None:
        ctx.bind(ctx.value(a["bias"]), 0, out.labels[-1])


@rule("matmul", "mm", "bmm")
def matmul(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    y = ctx.value(a["other"] if "other" in a else a["mat2"])
    y_dim = max(0, y.rank - 2)
    multiply(ctx, x, x.rank - 1, y, y_dim)
    if x.source is None and y.source is None and min(x.rank, y.rank) >= 3:
        attention_roles(ctx, x, y)
    batch = [Value(v.shape[: max(0, v.rank - 2)], v.labels[: max(0, v.rank - 2)], v.source) for v in (x, y)]
    rest = Value(out.shape[: max(b.rank for b in batch)], [])
    out.labels[: rest.rank] = broadcast(ctx, batch, rest)
    for value, part in zip((x, y), batch, strict=True):
        value.labels[: part.rank] = part.labels
    position = rest.rank
    if x.rank > 1:
        out.labels[position] = ctx.read(x, x.rank - 2)
        position += 1
    if y.rank > 1:
        out.labels[position] = ctx.read(y, y.rank - 1)


@rule("addmm", "baddbmm")
def addmm(ctx: Context, a: Arguments, out: Value) -> None:
    batched = ctx.op == "baddbmm"
    x, y = (ctx.value(a[name]) for name in (("batch1", "batch2") if batched else ("mat1", "mat2")))
    multiply(ctx, x, x.rank - 1, y, y.rank - 2, first=1)
    out.labels[-2:] = [ctx.read(x, x.rank - 2), ctx.read(y, y.rank - 1)]
    if batched:
        attention_roles(ctx, x, y)
        ctx.equate(ctx.read(x, 0), ctx.read(y, 0))
        out.labels[0] = x.labels[0]
    broadcast(ctx, [ctx.value(a["self"]), out], out)


def attention_roles(ctx: Context, x: Value, y: Value) -> None:
    """The product of two activations is attention: scores q k^T or their product with the values."""
    for value in (x, y):
        for dim in range(value.rank - 2):
            ctx.role(value, dim, "heads")
    ctx.role(x, x.rank - 1, "query-key")
    ctx.role(x, x.rank - 2, "value")
    ctx.role(y, y.rank - 1, "value")


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
