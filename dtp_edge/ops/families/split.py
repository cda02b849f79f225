"""Split, slice, select, unbind: the label arrays are cut as the values are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.ops.nodes import op_name
from dtp_edge.ops.refusal import Code, NotCovered
from dtp_edge.ops.site import Site, become_index_select, compact_gather
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, example, register, spec_of
from dtp_edge.ops.values import Arguments, Context, Value

aten = torch.ops.aten


def split(ctx: Context, a: Arguments, out: list[Value]) -> None:
    x = ctx.value(a["self"])
    dim, start = ctx.dim(a["dim"], x.rank), 0
    for part in out:
        stop = start + part.shape[dim]
        part.labels[:] = [_cut(ctx.read(x, d), start, stop, 1, d == dim) for d in range(x.rank)]
        start = stop


def _cut(rows: Any, start: int, stop: int, step: int, here: bool) -> Any:
    return rows[start:stop:step] if here and rows is not None else rows


def slice_(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    dim = ctx.dim(a["dim"] or 0, x.rank)
    size, step = x.shape[dim], 1 if a["step"] is None else ctx.number(a["step"], "a step")
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    if out.shape[dim] == size or out.labels[dim] is None:
        return
    start = 0 if a["start"] is None else ctx.number(a["start"], "a bound")
    start = min(size, max(0, start + size if start < 0 else start))
    if step > 1 and written_in_place(ctx.node):
        ctx.freeze(out.labels[dim], "written in place through a strided slice", Code.IN_PLACE)
    rows = out.labels[dim][start : start + step * out.shape[dim] : step]
    if len(rows) != out.shape[dim]:
        raise NotCovered("bounds that are computed at run time")
    out.labels[dim] = rows


def written_in_place(node: fx.Node) -> bool:
    """Return whether an operator writes to this node or to a view of it.

    Every slice with step 1 is one in the compact network too. A strided one need not be, and what stands for
    it then is a copy.
    """
    for user in node.users:
        name = op_name(user)
        spec = spec_of(name)
        views = spec is not None and spec.memory != "new"
        writes = name.endswith("_") and not name.startswith("_")
        if user.args and user.args[0] is node and (writes or (views and written_in_place(user))):
            return True
    return False


def narrow(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    dim, start = ctx.dim(a["dim"], x.rank), ctx.number(a["start"], "a bound")
    out.labels[:] = [_cut(ctx.read(x, d), start, start + out.shape[dim], 1, d == dim) for d in range(x.rank)]


def select(ctx: Context, a: Arguments, out: Value) -> None:
    """Picks one index by its number, so that index must stay; the others may go."""
    x = ctx.value(a["self"])
    dim = ctx.dim(a["dim"], x.rank)
    rows, picked = ctx.read(x, dim), ctx.number(a["index"], "an index") % x.shape[dim]
    if rows is not None:
        ctx.freeze(rows[picked : picked + 1], "its entries are taken out one by one", Code.APART)
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank) if d != dim]


def unbind(ctx: Context, a: Arguments, out: list[Value]) -> None:
    x = ctx.value(a["self"])
    dim = ctx.dim(a["dim"], x.rank)
    ctx.freeze(ctx.read(x, dim), "it is split into parts that mean different things", Code.APART)
    for part in out:
        part.labels[:] = [ctx.read(x, d) for d in range(x.rank) if d != dim]


def cut_slice(site: Site) -> None:
    dim = site.dim()
    before, after = site.ends(dim)
    if before is None and after is None:
        return
    size = dense_shape(site.input())[dim]
    if site.old.target is aten.narrow.default:
        start, length = site.arg("start"), site.arg("length")
        bounds = slice(start, start + length)
    else:
        bounds = slice(site.arg("start"), site.arg("end"), site.arg("step", 1))
    place = compact_gather(site, np.arange(size)[bounds], before, after, size)
    step = int(place[1] - place[0]) if len(place) > 1 else 1
    if step > 0 and np.array_equal(place, place[0] + step * np.arange(len(place))):
        site.become(aten.slice.Tensor, site.new.args[0], dim, int(place[0]), int(place[-1]) + 1, step)
    else:
        become_index_select(site, dim, place)


def selected(site: Site) -> None:
    dim = site.dim()
    before = site.kept.node(site.input())[dim]
    if before is None:
        return
    index = site.arg("index") % dense_shape(site.input())[dim]
    if index not in before:
        raise site.wrong(f"reads index {index}, which is removed")
    site.set_arg("index", int(np.searchsorted(before, index)))


def split_sizes(site: Site) -> None:
    dim = site.dim()
    before = site.kept.node(site.input())[dim]
    if before is None:
        return
    pieces = [v.shape[dim] for v in site.old.meta["val"]]
    stops = np.cumsum(pieces)
    counts = np.diff(np.searchsorted(before, np.append(0, stops)))
    site.become(aten.split_with_sizes.default, site.new.args[0], counts.tolist(), dim)


_X = T((2, 6, 4))
for _name, _args in (
    ("split", (3, 1)),
    ("split_with_sizes", ([2, 4], 1)),
    ("chunk", (2, 1)),
    ("tensor_split", (2, 1)),
    ("unsafe_split", (3, 1)),
    ("unsafe_chunk", (2, 1)),
):
    register(
        Spec(
            names=(_name,),
            label=split,
            size=split_sizes,
            kernel="layout",
            memory="new" if "unsafe" in _name else "view",
            examples=(example(_X, *_args),),
        )
    )
register(
    Spec(
        names=("slice",),
        label=slice_,
        size=cut_slice,
        kernel="layout",
        memory="view",
        examples=(example(_X, 1, 1, 5), example(_X, 1, 0, 6, 2), example(_X, 2, -2, 2**63 - 1)),
    )
)
register(
    Spec(
        names=("narrow",),
        label=narrow,
        size=cut_slice,
        kernel="layout",
        memory="view",
        examples=(example(_X, 1, 1, 4),),
    )
)
register(
    Spec(
        names=("select",),
        label=select,
        size=selected,
        kernel="layout",
        memory="view",
        examples=(example(_X, 1, 2), example(_X, 2, -1)),
    )
)
register(Spec(names=("unbind",), label=unbind, kernel="layout", memory="view", examples=(example(_X, 1),)))
