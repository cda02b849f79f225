"""Reshapes: labels merge into products and are taken apart again; sizes in the graph follow."""

from __future__ import annotations

import numpy as np
import torch

from dtp_edge.ops.factor import common_pieces, segments, take, unfold
from dtp_edge.ops.labels import Rows
from dtp_edge.ops.refusal import Code, NotCovered
from dtp_edge.ops.site import Site, fitted_sizes, sizes_of_output
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value, join

aten = torch.ops.aten


def reshape(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    if int(np.prod(x.shape)) != int(np.prod(out.shape)):
        raise NotCovered("the same bytes read as another type")
    for ins, outs in segments(x.shape, out.shape):
        _reshape_segment(ctx, x, ins, out, outs)


def reshape_as(ctx: Context, a: Arguments, out: Value) -> None:
    """The other tensor gives the sizes, so its labels are those of the result."""
    reshape(ctx, a, out)
    other = ctx.value(a["other"])
    for dim in range(out.rank):
        ctx.equate(out.labels[dim], ctx.read(other, dim))


def _reshape_segment(ctx: Context, x: Value, ins: list[int], out: Value, outs: list[int]) -> None:
    """Relabel one block: cut its input dimensions at the borders of the output's, then join the pieces."""
    for d in ins:
        if x.shape[d] == 1:
            ctx.freeze(x.labels[d], "a dimension of size 1 that is reshaped", Code.STRETCHED)
    narrow = [d for d in ins if x.shape[d] != 1]
    wide = [d for d in outs if out.shape[d] != 1]
    labels = [(ctx.read(x, d), x.shape[d]) for d in narrow]
    if all(rows is None for rows, _ in labels):
        return
    if len(labels) == len(wide) == 1:
        out.labels[wide[0]] = labels[0][0]
        return
    pieces = common_pieces([n for _, n in labels], [out.shape[d] for d in wide])
    if pieces is None:  # the borders cross: go through the flattened block
        labels = [(join(labels), int(np.prod([n for _, n in labels])))]
        pieces = [out.shape[d] for d in wide]
    parts: list[tuple[Rows | None, int]] = []
    for rows, size in labels:
        sizes = take(pieces, size, len(parts))
        parts.extend(zip(unfold(ctx, rows, sizes), sizes, strict=True))
    for d in wide:
        sizes = take(pieces, out.shape[d], len(pieces) - len(parts))
        out.labels[d] = join(parts[: len(sizes)])
        parts = parts[len(sizes) :]


def unflatten_sizes(site: Site) -> None:
    dim, sizes = site.arg("dim"), site.arg("sizes")
    start = dim % len(dense_shape(site.input()))
    wanted = site.kept.shape(site.old)[start : start + len(sizes)]
    site.set_arg("sizes", fitted_sizes(site, sizes, wanted))


def squeezed(site: Site) -> None:
    """A width pruned to one must not vanish with the dimensions that were one from the start."""
    shape = dense_shape(site.input())
    given = site.arg("dim")
    dims = list(range(len(shape))) if given is None else [given] if isinstance(given, int) else list(given)
    ones = [d for d in dims if shape[d] == 1]
    if given is None or ones != dims:
        site.become(aten.squeeze.dims, site.new.args[0], ones)


_X = T((2, 6, 4))
_TO = (example(_X, [2, 24]), example(_X, [2, 3, 2, 4]))
register(
    Spec(
        names=("view", "_unsafe_view"),
        label=reshape,
        size=sizes_of_output("size"),
        kernel="view",
        memory="view",
        moves=True,
        examples=_TO,
    )
)
register(
    Spec(
        names=("view_copy",),
        label=reshape,
        size=sizes_of_output("size"),
        kernel="view",
        examples=_TO,
    )
)
register(
    Spec(
        names=("reshape",),
        label=reshape,
        size=sizes_of_output("shape"),
        kernel="view",
        memory="either",
        moves=True,
        examples=_TO,
    )
)
register(
    Spec(
        names=("view_as", "reshape_as"),
        label=reshape_as,
        kernel="view",
        memory="either",
        examples=(example(_X, T((2, 6, 2, 2))),),
    )
)
register(
    Spec(
        names=("flatten",),
        label=reshape,
        kernel="view",
        memory="either",
        moves=True,
        examples=(example(_X, 1),),
    )
)
register(Spec(names=("ravel",), label=reshape, kernel="view", memory="either", examples=(example(_X),)))
register(
    Spec(
        names=("unflatten",),
        label=reshape,
        size=unflatten_sizes,
        kernel="view",
        memory="view",
        moves=True,
        examples=(example(_X, 1, [3, 2]),),
    )
)
register(
    Spec(
        names=("unsqueeze",),
        label=reshape,
        kernel="view",
        memory="view",
        moves=True,
        examples=(example(_X, 1),),
    )
)
register(
    Spec(
        names=("squeeze",),
        label=reshape,
        size=squeezed,
        kernel="view",
        memory="view",
        moves=True,
        examples=(example(T((2, 6, 1, 4))), example(T((2, 6, 1, 4)), 2), example(T((2, 6, 1, 4)), [1, 2])),
    )
)
