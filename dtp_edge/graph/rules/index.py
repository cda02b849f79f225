"""Look-ups: a constant index moves labels, one that is computed at run time needs the whole dimension."""

from __future__ import annotations

import numpy as np

from dtp_edge.graph.labels import Rows
from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.rules.shape import unfold
from dtp_edge.graph.values import UNSET, Context, Value


@rule("index_select")
def index_select(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    dim = int(a["dim"]) % x.rank
    out.labels[:] = [None if d == dim else ctx.read(x, d) for d in range(x.rank)]
    out.labels[dim] = _gather(ctx, x, dim, ctx.constant(a["index"]))


@rule("index")
def index(ctx: Context, a: Arguments, out: Value) -> None:
    """x[:, index]: one index tensor; its dimensions take the place of the one that it looks up."""
    x = ctx.value(a["self"])
    used = [d for d, i in enumerate(a["indices"]) if i is not None]
    if len(used) != 1 or ctx.boolean(a["indices"][used[0]]):
        for d in used:
            if x.labels[d] is UNSET:
                x.labels[d] = None
            ctx.freeze(x.labels[d], "looked up by several indices")
        assert all(x.labels[d] is None for d in range(x.rank)) or out.rank == x.rank - len(used) + 1
        if any(x.labels[d] is not None and x.labels[d] is not UNSET for d in range(x.rank)):
            _freeze_rest(ctx, x)
        return
    dim, which = used[0], a["indices"][used[0]]
    inner = ctx.value(which)
    ctx.freeze_value(inner, "an index is looked up")
    rows = _gather(ctx, x, dim, ctx.constant(which))
    parts = unfold(ctx, rows, list(inner.shape)) if inner.rank else []
    out.labels[:] = [
        *(ctx.read(x, d) for d in range(dim)),
        *parts,
        *(ctx.read(x, d) for d in range(dim + 1, x.rank)),
    ]


def _freeze_rest(ctx: Context, x: Value) -> None:
    for d in range(x.rank):
        ctx.freeze(x.labels[d], "looked up by several indices")


def _gather(ctx: Context, x: Value, dim: int, numbers: np.ndarray | None) -> Rows | None:
    """Return the labels of x's dimension at constant numbers; a parameter table is looked up whole."""
    if x.labels[dim] is UNSET:
        x.labels[dim] = None
    rows = x.labels[dim]
    if rows is None:
        return None
    if numbers is None:
        ctx.freeze(rows, "looked up by an index that is computed at run time")
        return None
    return rows[numbers.reshape(-1)]


@rule("embedding")
def embedding(ctx: Context, a: Arguments, out: Value) -> None:
    weight, numbers = ctx.value(a["weight"]), ctx.value(a["indices"])
    ctx.bind(weight, 0, None)
    out.labels[:] = [*(ctx.read(numbers, d) for d in range(numbers.rank)), ctx.read(weight, 1)]


@rule("gather")
def gather(ctx: Context, a: Arguments, out: Value) -> None:
    """Along the looked-up dimension everything stays; the others belong to table and index alike."""
    x, numbers, dim = ctx.value(a["self"]), ctx.value(a["index"]), int(a["dim"])
    for d in range(x.rank):
        here = ctx.read(x, d)
        if d == dim % x.rank or x.shape[d] != numbers.shape[d]:
            ctx.freeze(here, "gathered by an index")
            out.labels[d] = None
        else:
            ctx.equate(here, ctx.read(numbers, d))
            out.labels[d] = here
    ctx.freeze(ctx.read(numbers, dim % x.rank), "an index is looked up")
