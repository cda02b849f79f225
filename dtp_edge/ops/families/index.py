"""Look-ups: a constant index moves labels, one that is computed at run time needs the whole dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.ops.factor import unfold
from dtp_edge.ops.labels import Rows
from dtp_edge.ops.refusal import Code
from dtp_edge.ops.site import Site, become_index_select, compact_gather
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import UNSET, Arguments, Context, Value


def index_select(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    dim = ctx.dim(a["dim"], x.rank)
    out.labels[:] = [None if d == dim else ctx.read(x, d) for d in range(x.rank)]
    out.labels[dim] = _gather(ctx, x, dim, ctx.constant(a["index"]))


def index(ctx: Context, a: Arguments, out: Value) -> None:
    """x[:, index]: one index tensor; its dimensions take the place of the one that it looks up."""
    x = ctx.value(a["self"])
    used = [d for d, i in enumerate(a["indices"]) if i is not None]
    if len(used) != 1 or ctx.boolean(a["indices"][used[0]]):
        for d in used:
            if x.labels[d] is UNSET:
                x.labels[d] = None
            ctx.freeze(x.labels[d], "it is indexed by several tensors at once", Code.INDEX)
        if any(x.labels[d] is not None and x.labels[d] is not UNSET for d in range(x.rank)):
            _freeze_rest(ctx, x)
        return
    dim, which = used[0], a["indices"][used[0]]
    inner = ctx.value(which)
    ctx.freeze_value(inner, "entries are picked from it by index", Code.INDEX)
    rows = _gather(ctx, x, dim, ctx.constant(which))
    parts = unfold(ctx, rows, list(inner.shape)) if inner.rank else []
    out.labels[:] = [
        *(ctx.read(x, d) for d in range(dim)),
        *parts,
        *(ctx.read(x, d) for d in range(dim + 1, x.rank)),
    ]


def _freeze_rest(ctx: Context, x: Value) -> None:
    for d in range(x.rank):
        ctx.freeze(x.labels[d], "it is indexed by several tensors at once", Code.INDEX)


def _gather(ctx: Context, x: Value, dim: int, numbers: np.ndarray | None) -> Rows | None:
    """Return the labels of x's dimension at constant numbers; a parameter table is looked up whole."""
    if x.labels[dim] is UNSET:
        x.labels[dim] = None
    rows = x.labels[dim]
    if rows is None:
        return None
    if numbers is None:
        ctx.freeze(rows, "it is indexed by values that are computed at run time", Code.INDEX)
        return None
    return rows[numbers.reshape(-1)]


def embedding(ctx: Context, a: Arguments, out: Value) -> None:
    weight, numbers = ctx.value(a["weight"]), ctx.value(a["indices"])
    ctx.bind(weight, 0, None)
    out.labels[:] = [*(ctx.read(numbers, d) for d in range(numbers.rank)), ctx.read(weight, 1)]


def gather(ctx: Context, a: Arguments, out: Value) -> None:
    """Along the looked-up dimension everything stays; the others belong to table and index alike."""
    x, numbers = ctx.value(a["self"]), ctx.value(a["index"])
    dim = ctx.dim(a["dim"], x.rank)
    for d in range(x.rank):
        here = ctx.read(x, d)
        if d == dim or x.shape[d] != numbers.shape[d]:
            ctx.freeze(here, "entries are gathered from it by index", Code.INDEX)
            out.labels[d] = None
        else:
            ctx.equate(here, ctx.read(numbers, d))
            out.labels[d] = here
    ctx.freeze(ctx.read(numbers, dim), "entries are picked from it by index", Code.INDEX)


def selected_by_index(site: Site) -> None:
    dim = site.dim()
    place = _compact_index(site, dim, site.arg("index"))
    if place is not None:
        become_index_select(site, dim, place)


def indexed(site: Site) -> None:
    indices = list(site.arg("indices"))
    used = [d for d, i in enumerate(indices) if i is not None]
    if len(used) != 1:
        return  # several indices: labels leave the indexed dimensions whole
    place = _compact_index(site, used[0], indices[used[0]])
    if place is not None:
        fresh = list(site.new_arg("indices"))
        fresh[used[0]] = site.constant(place)
        site.set_arg("indices", fresh)


def _compact_index(site: Site, dim: int, node: Any) -> np.ndarray | None:
    """Return the constant index that looks up what survives, None if nothing changes along `dim`."""
    rank = len(dense_shape(node))
    before, after = site.kept.node(site.input())[dim], site.kept.node(site.old)[dim : dim + rank]
    if before is None and all(a is None for a in after):
        return None
    values = site.constant_value(node)
    if values is None:
        raise site.wrong("indexes a pruned dimension by values that are not constant")
    size = dense_shape(site.input())[dim]
    source = np.flatnonzero(values) if values.dtype == bool else values % size
    for axis, kept in enumerate(after):
        source = source if kept is None else source.take(kept, axis=axis)
    place = compact_gather(site, source.reshape(-1), before, None, size)
    return place.reshape(source.shape)


_X = T((2, 6, 4))
register(
    Spec(
        names=("index_select",),
        label=index_select,
        size=selected_by_index,
        kernel="layout",
        examples=(example(_X, 1, T((4,), "index", 6)),),
    )
)
register(
    Spec(
        names=("index",),
        label=index,
        size=indexed,
        kernel="embedding",
        examples=(
            example(_X, [None, T((4,), "index", 6)]),
            example(_X, [None, T((2, 3), "index", 6)]),
            example(_X, [T((3,), "index", 2), T((3,), "index", 6)]),
        ),
    )
)
register(
    Spec(
        names=("embedding",),
        label=embedding,
        kernel="embedding",
        examples=(example(T((7, 6), "parameter"), T((2, 4), "index", 7)),),
    )
)
register(
    Spec(
        names=("gather",),
        label=gather,
        kernel="embedding",
        examples=(example(_X, 1, T((2, 3, 4), "index", 6)),),
    )
)
