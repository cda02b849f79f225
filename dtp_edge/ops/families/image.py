"""Channels into pixels and back: shuffles, windows as columns."""

from __future__ import annotations

import numpy as np

from dtp_edge.ops.labels import Rows
from dtp_edge.ops.site import Site, become_index_select, compact_gather
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value


def pixel_shuffle(ctx: Context, a: Arguments, out: Value) -> None:
    """[.., c r r, h, w] -> [.., c, h r, w r]: the r r offsets of an output channel go together."""
    x, r = ctx.value(a["self"]), int(a["upscale_factor"])
    out.labels[:] = _whole_image(ctx, x)
    rows = out.labels[-3]
    if rows is not None:
        each = rows[:: r * r]
        ctx.equate(rows, np.repeat(each, r * r, axis=0))
        out.labels[-3] = each


def _whole_image(ctx: Context, x: Value) -> list[Rows | None]:
    """Return the labels of an image batch, its height and width frozen."""
    for dim in (-2, -1):
        ctx.freeze(ctx.read(x, x.rank + dim), f"{ctx.op} takes it as a spatial dimension")
    return [ctx.read(x, d) for d in range(x.rank - 2)] + [None, None]


def pixel_unshuffle(ctx: Context, a: Arguments, out: Value) -> None:
    x, r = ctx.value(a["self"]), int(a["downscale_factor"])
    out.labels[:] = _whole_image(ctx, x)
    rows = out.labels[-3]
    if rows is not None:
        out.labels[-3] = np.repeat(rows, r * r, axis=0)


def im2col(ctx: Context, a: Arguments, out: Value) -> None:
    """[b, c, h, w] -> [b, c k, places]: each channel becomes its k places of the kernel."""
    x, places = ctx.value(a["self"]), int(np.prod(a["kernel_size"]))
    rows = _whole_image(ctx, x)[-3]
    out.labels[:-2] = [ctx.read(x, d) for d in range(x.rank - 3)]
    out.labels[-2] = None if rows is None else np.repeat(rows, places, axis=0)


def col2im(ctx: Context, a: Arguments, out: Value) -> None:
    """[b, c k, places] -> [b, c, h, w]: the k places of a channel go together."""
    x, places = ctx.value(a["self"]), int(np.prod(a["kernel_size"]))
    ctx.freeze(ctx.read(x, x.rank - 1), "col2im takes it as a spatial dimension")
    out.labels[:-3] = [ctx.read(x, d) for d in range(x.rank - 2)]
    rows = ctx.read(x, x.rank - 2)
    if rows is not None:
        ctx.equate(rows, np.repeat(rows[::places], places, axis=0))
        out.labels[-3] = rows[::places]


def unfold_windows(ctx: Context, a: Arguments, out: Value) -> None:
    """Tensor.unfold: windows along one dimension, their places in a new last one; the others pass."""
    x, dim = ctx.value(a["self"]), int(a["dimension"]) % max(1, ctx.value(a["self"]).rank)
    ctx.freeze(ctx.read(x, dim), "windows slide over it")
    out.labels[:-1] = [None if d == dim else ctx.read(x, d) for d in range(x.rank)]


def channel_shuffle(ctx: Context, a: Arguments, out: Value) -> None:
    """A fixed permutation of the channels, tied so that it stays one: the same offsets in every group."""
    x, groups = ctx.value(a["self"]), int(a["groups"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    rows = out.labels[1]
    if rows is not None:
        ctx.equate(rows, np.tile(rows[: len(rows) // groups], (groups, 1)))
        out.labels[1] = rows.reshape(groups, -1, rows.shape[1]).transpose(1, 0, 2).reshape(len(rows), -1)


def shuffled(site: Site) -> None:
    before, after = site.ends(1)
    if before is None and after is None:
        return
    size, groups = dense_shape(site.input())[1], site.arg("groups")
    place = compact_gather(site, np.arange(size).reshape(groups, -1).T.ravel(), before, after, size)
    count = len(place)
    if count % groups or not np.array_equal(place, np.arange(count).reshape(groups, -1).T.ravel()):
        become_index_select(site, 1, place)


for _name, _label, _args in (
    ("pixel_shuffle", pixel_shuffle, (T((2, 8, 4, 4)), 2)),
    ("pixel_unshuffle", pixel_unshuffle, (T((2, 6, 4, 4)), 2)),
    ("im2col", im2col, (T((2, 6, 3, 3)), [2, 2], [1, 1], [0, 0], [1, 1])),
    ("col2im", col2im, (T((2, 24, 4)), [3, 3], [2, 2], [1, 1], [0, 0], [1, 1])),
    ("unfold", unfold_windows, (T((2, 6, 4)), 2, 2, 1)),
):
    register(Spec(names=(_name,), label=_label, kernel="layout", examples=(example(*_args),)))
register(
    Spec(
        names=("channel_shuffle", "native_channel_shuffle"),
        label=channel_shuffle,
        size=shuffled,
        kernel="layout",
        examples=(example(T((2, 6, 4, 4)), 2),),
    )
)
