"""How the dimensions of several tensors meet: the rule under all that acts index by index."""

from __future__ import annotations

from dtp_edge.ops.labels import Rows
from dtp_edge.ops.refusal import Code
from dtp_edge.ops.values import UNSET, Context, Value


def broadcast(ctx: Context, values: list[Value], out: Value) -> list[Rows | None]:
    """Unite aligned dimensions of the values and return the labels of the result.

    A dimension of size one that is stretched carries nothing; a parameter takes the labels that it meets.
    """
    labels: list[Rows | None] = []
    for position in range(out.rank):
        back = out.rank - position
        met = [(v, v.rank - back) for v in values if v.rank >= back]
        for v, d in met:
            if v.shape[d] == 1 and v.labels[d] is UNSET:
                v.labels[d] = None
        full = [(v, d) for v, d in met if v.shape[d] == out.shape[position]]
        labels.append(_unite(ctx, full) if out.shape[position] != 1 else None)
        for v, d in met:
            if v.shape[d] == 1 and out.shape[position] != 1:
                ctx.freeze(v.labels[d], "one value that is stretched over the dimension", Code.STRETCHED)
    return labels


def _unite(ctx: Context, dims: list[tuple[Value, int]]) -> Rows | None:
    known = [(v, d) for v, d in dims if v.labels[d] is not UNSET]
    if not known:
        known = dims[:1]
        ctx.read(*dims[0])
    first = known[0][0].labels[known[0][1]]
    for value, dim in dims:
        if value.labels[dim] is UNSET and ctx.made_by_nobody(first):
            ctx.read(
                value, dim
            )  # a parameter times a constant is a parameter still: its layer makes channels
        ctx.bind(value, dim, first)
    if first is not None and any(v.labels[d] is None for v, d in dims):
        return None
    return first


def along(value: Value, dim: int) -> Value:
    """Return one dimension of a value as a value of its own."""
    return Value((value.shape[dim],), [value.labels[dim]], value.source)


def leading(value: Value, less: int) -> Value:
    """Return a value's first dimensions, all but the last `less`."""
    n = max(0, value.rank - less)
    return Value(value.shape[:n], value.labels[:n], value.source)
