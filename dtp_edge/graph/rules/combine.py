"""Concatenate, stack, split, slice, select, pad, roll, flip: the label arrays go the way of the values."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.rules.elementwise import broadcast
from dtp_edge.graph.values import Context, Value, concatenate, op_name


@rule("cat", "concat", "concatenate")
def cat(ctx: Context, a: Arguments, out: Value) -> None:
    values = [ctx.value(n) for n in a["tensors"]]
    values = [v for v in values if v.rank == out.rank]  # empty 1-d tensors are dropped by ATen itself
    dim = int(a["dim"]) % out.rank
    out.labels[:] = _aligned(ctx, values, out, skip=dim)
    out.labels[dim] = concatenate([(ctx.read(v, dim), v.shape[dim]) for v in values])


@rule("stack")
def stack(ctx: Context, a: Arguments, out: Value) -> None:
    values = [ctx.value(n) for n in a["tensors"]]
    dim = int(a["dim"]) % out.rank
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
        parts = [Value((v.shape[dim],), [v.labels[dim]], v.source) for v in values]
        labels.extend(broadcast(ctx, parts, Value((out.shape[dim],), [None])))
        for v, part in zip(values, parts, strict=True):
            v.labels[dim] = part.labels[0]
    return labels


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(ctx: Context, a: Arguments, out: list[Value]) -> None:
    x = ctx.value(a["self"])
    dim, start = int(a["dim"]) % x.rank, 0
    for part in out:
        stop = start + part.shape[dim]
        part.labels[:] = [_cut(ctx.read(x, d), start, stop, 1, d == dim) for d in range(x.rank)]
        start = stop


def _cut(rows: Any, start: int, stop: int, step: int, here: bool) -> Any:
    return rows[start:stop:step] if here and rows is not None else rows


@rule("slice")
def slice_(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    dim = int(a["dim"] or 0) % x.rank
    size, step = x.shape[dim], int(a["step"] or 1)
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    if out.shape[dim] == size or out.labels[dim] is None:
        return
    start = int(a["start"] or 0)
    start = min(size, max(0, start + size if start < 0 else start))
    if step > 1 and _written_in_place(ctx.node):
        ctx.freeze(out.labels[dim], "written in place through a strided slice")
    rows = out.labels[dim][start : start + step * out.shape[dim] : step]
    assert len(rows) == out.shape[dim]
    out.labels[dim] = rows


VIEWS = {"view", "transpose", "permute", "unsqueeze", "squeeze", "slice", "select", "narrow", "split",
         "split_with_sizes", "chunk", "unbind", "getitem", "expand", "alias", "detach", "t"}  # fmt: skip


def _written_in_place(node: fx.Node) -> bool:
    """Return whether an operator writes to this node or to a view of it.

    Every slice with step 1 is one in the compact network too. A strided one need not be, and what stands for
    it then is a copy.
    """
    for user in node.users:
        name = op_name(user)
        writes = name.endswith("_") and not name.startswith("_")
        if user.args and user.args[0] is node and (writes or (name in VIEWS and _written_in_place(user))):
            return True
    return False


@rule("narrow")
def narrow(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    dim, start = int(a["dim"]) % x.rank, int(a["start"])
    out.labels[:] = [_cut(ctx.read(x, d), start, start + out.shape[dim], 1, d == dim) for d in range(x.rank)]


@rule("select")
def select(ctx: Context, a: Arguments, out: Value) -> None:
    """Picks one index by its number, so that index must stay; the others may go."""
    x = ctx.value(a["self"])
    dim = int(a["dim"]) % x.rank
    rows, picked = ctx.read(x, dim), int(a["index"]) % x.shape[dim]
    if rows is not None:
        ctx.freeze(rows[picked : picked + 1], "the dimension is taken apart by index")
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank) if d != dim]


@rule("unbind")
def unbind(ctx: Context, a: Arguments, out: list[Value]) -> None:
    x = ctx.value(a["self"])
    dim = int(a["dim"]) % x.rank
    ctx.freeze(ctx.read(x, dim), "the dimension is taken apart")
    for part in out:
        part.labels[:] = [ctx.read(x, d) for d in range(x.rank) if d != dim]


@rule("getitem")
def getitem(ctx: Context, a: Arguments, out: Value) -> None:
    part = ctx.values[a["0"]][int(a["1"])]
    out.labels[:] = part.labels


@rule("pad", "constant_pad_nd")
def pad(ctx: Context, a: Arguments, out: Value) -> None:
    """Padding adds indices that hold a constant: they are free and take part in what they are added to."""
    x = ctx.value(a["self"])
    amounts = [int(p) if isinstance(p, int) else 0 for p in a["pad"]]
    constant = a.get("mode", "constant") == "constant"
    for dim in range(x.rank):
        k = 2 * (x.rank - 1 - dim)
        before, after = (amounts[k], amounts[k + 1]) if k + 1 < len(amounts) else (0, 0)
        rows = ctx.read(x, dim)
        if rows is None or (before == 0 and after == 0):
            out.labels[dim] = rows
        elif constant and before >= 0 and after >= 0:
            free = [ctx.fresh(n, "padding") if n else None for n in (before, after)]
            parts = [(free[0], before), (rows, x.shape[dim]), (free[1], after)]
            out.labels[dim] = concatenate([(r, n) for r, n in parts if n])
        elif constant:
            out.labels[dim] = rows[max(0, -before) : len(rows) - max(0, -after)]
            assert len(out.labels[dim]) == out.shape[dim]
        else:
            ctx.freeze(rows, f"padding of mode {a.get('mode')} over the channels")


@rule("flip")
def flip(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    turned = {int(d) % x.rank for d in a["dims"]}
    for d in range(x.rank):
        rows = ctx.read(x, d)
        out.labels[d] = rows[::-1] if d in turned and rows is not None else rows


@rule("roll")
def roll(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    if not a["dims"]:
        for rows in out.labels:
            ctx.freeze(rows, "roll over the flattened tensor")
        out.labels[:] = [None] * x.rank
        return
    for shift, dim in zip(a["shifts"], a["dims"], strict=True):
        dim = int(dim) % x.rank
        if out.labels[dim] is not None:
            out.labels[dim] = np.roll(out.labels[dim], int(shift), axis=0)
