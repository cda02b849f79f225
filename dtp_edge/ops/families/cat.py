"""Concatenate and stack: the label arrays go the way of the values."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.ops.broadcast import along, broadcast
from dtp_edge.ops.site import Site, index_after
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value, concatenate


def cat(ctx: Context, a: Arguments, out: Value) -> None:
    values = [ctx.value(n) for n in a["tensors"]]
    values = [v for v in values if v.rank == out.rank]  # empty 1-d tensors are dropped by ATen itself
    dim = ctx.dim(a["dim"], out.rank)
    out.labels[:] = _aligned(ctx, values, out, skip=dim)
    out.labels[dim] = concatenate([(ctx.read(v, dim), v.shape[dim]) for v in values])


def stack(ctx: Context, a: Arguments, out: Value) -> None:
    values = [ctx.value(n) for n in a["tensors"]]
    dim = ctx.dim(a["dim"], out.rank)
    inner = Value(values[0].shape, [None] * values[0].rank)
    labels = _aligned(ctx, values, inner, skip=-1)
    out.labels[:] = [*labels[:dim], None, *labels[dim:]]


def _aligned(ctx: Context, values: list[Value], out: Value, skip: int) -> list[Any]:
    """Unite the dimensions of values of equal rank, all but `skip`."""
    labels: list[Any] = []
    for dim in range(out.rank):
        if dim == skip:
            labels.append(None)
            continue
        parts = [along(v, dim) for v in values]
        labels.extend(broadcast(ctx, parts, Value((out.shape[dim],), [None])))
        for v, part in zip(values, parts, strict=True):
            v.labels[dim] = part.labels[0]
    return labels


def gathered(site: Site) -> None:
    parts = site.arg("tensors")
    dim = site.arg("dim", 0) % len(dense_shape(site.old))
    after = site.kept.node(site.old)[dim]
    held, start = [], 0
    for part in parts:  # type: ignore[union-attr]
        size, kept = dense_shape(part)[dim], site.kept.node(part)[dim]  # type: ignore[arg-type]
        held.append(start + (np.arange(size) if kept is None else kept))
        start += size
    present = np.concatenate(held)
    wanted = np.arange(start) if after is None else after
    if np.array_equal(present, wanted):
        return
    place = np.searchsorted(present, wanted).clip(max=len(present) - 1)
    if not np.array_equal(present[place], wanted):
        raise site.wrong("keeps a channel that its inputs have lost")
    index_after(site, site.new, dim, place)


_X, _Y = T((2, 6, 4)), T((2, 6, 4))
register(
    Spec(
        names=("cat",),
        aliases={"concat": "cat", "concatenate": "cat"},
        label=cat,
        size=gathered,
        kernel="layout",
        layout="concat",
        examples=(example([_X, _Y], 1), example([_X, T((2, 6, 3))], -1)),
    )
)
register(Spec(names=("stack",), label=stack, kernel="layout", examples=(example([_X, _Y], 1),)))
