"""Pad, flip, roll: positions move along a dimension, and padding is free."""

from __future__ import annotations

import numpy as np
import torch

from dtp_edge.ops.refusal import Code
from dtp_edge.ops.site import Site, compact_gather, indices_after
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value, concatenate

aten = torch.ops.aten


def pad(ctx: Context, a: Arguments, out: Value) -> None:
    """Padding adds indices that hold a constant: they are free and take part in what they are added to."""
    x = ctx.value(a["self"])
    amounts = [p if isinstance(p, int) else 0 for p in a["pad"]]
    constant = a.get("mode", "constant") == "constant"
    for dim in range(x.rank):
        k = 2 * (x.rank - 1 - dim)
        before, after = (amounts[k], amounts[k + 1]) if k + 1 < len(amounts) else (0, 0)
        rows = ctx.read(x, dim)
        if rows is None or (before == 0 and after == 0):
            out.labels[dim] = rows
        elif constant:
            inside = rows[max(0, -before) : len(rows) - max(0, -after)]
            free = [(ctx.fresh(n, "padding"), n) if n > 0 else (None, 0) for n in (before, after)]
            parts = [free[0], (inside, len(inside)), free[1]]
            out.labels[dim] = concatenate([(r, n) for r, n in parts if n])
        else:
            ctx.freeze(rows, f"padding with mode {a.get('mode')} over the channels", Code.OVER_CHANNELS)


def flip(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    turned = {ctx.dim(d, x.rank) for d in a["dims"]}
    for d in range(x.rank):
        rows = ctx.read(x, d)
        out.labels[d] = rows[::-1] if d in turned and rows is not None else rows


def roll(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    if not a["dims"]:
        for rows in out.labels:
            ctx.freeze(rows, "roll over the flattened tensor", Code.OVER_CHANNELS)
        out.labels[:] = [None] * x.rank
        return
    for shift, dim in zip(a["shifts"], a["dims"], strict=True):
        dim = ctx.dim(dim, x.rank)
        if out.labels[dim] is not None:
            out.labels[dim] = np.roll(out.labels[dim], ctx.number(shift, "a shift"), axis=0)


def rolled(site: Site) -> None:
    shifts, dims = site.arg("shifts"), site.arg("dims", [])
    shifts, dims = ([v] if isinstance(v, int) else list(v) for v in (shifts, dims))
    shape = dense_shape(site.input())
    moves = []  # what index_select must do along labelled dimensions
    for i, dim in enumerate(d % len(shape) for d in dims):
        before, after = site.ends(dim)
        if before is None and after is None:
            continue
        size = shape[dim]
        place = compact_gather(site, (np.arange(size) - shifts[i]) % size, before, after, size)
        count = len(place)
        shift = int(-place[0]) % count
        if np.array_equal(place, (np.arange(count) - shift) % count):
            shifts[i] = shift
        else:
            shifts[i] = 0
            moves.append((dim, place))
    site.new.args, site.new.kwargs = (site.new.args[0], shifts, dims), {}
    indices_after(site, moves)


def flipped(site: Site) -> None:
    shape = dense_shape(site.input())
    plain, moves = [], []
    for dim in (d % len(shape) for d in site.arg("dims")):
        before, after = site.ends(dim)
        size = shape[dim]
        place = compact_gather(site, np.arange(size)[::-1], before, after, size)
        if np.array_equal(place, np.arange(len(place))[::-1]):
            plain.append(dim)
        else:
            moves.append((dim, place))
    site.new.args, site.new.kwargs = (site.new.args[0], plain), {}
    indices_after(site, moves)


def padded(site: Site) -> None:
    shape, pads = dense_shape(site.input()), list(site.arg("pad"))
    mode = site.arg("mode", "constant") if site.old.target is aten.pad.default else "constant"
    moves = []
    for k in range(len(pads) // 2):
        dim = len(shape) - 1 - k
        before, after = site.ends(dim)
        if before is None and after is None:
            continue
        low, high = pads[2 * k : 2 * k + 2]
        place = compact_gather(site, _padded(shape[dim], low, high, mode), before, after, shape[dim])
        count = shape[dim] if before is None else len(before)
        inner = np.flatnonzero(place >= 0)
        whole = np.array_equal(place[inner], np.arange(count)) and len(inner) == inner[-1] - inner[0] + 1
        if whole and mode == "constant":
            pads[2 * k : 2 * k + 2] = [int(inner[0]), len(place) - 1 - int(inner[-1])]
        else:  # one padded entry behind the data stands for all padding
            pads[2 * k : 2 * k + 2] = [0, 1 if mode == "constant" else 0]
            moves.append((dim, np.where(place < 0, count, place)))
    site.set_arg("pad", pads)
    indices_after(site, moves)


def _padded(size: int, low: int, high: int, mode: str) -> np.ndarray:
    numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(mode)
    positions = np.arange(size)[max(-low, 0) : size - max(-high, 0)]
    widths = (max(low, 0), max(high, 0))
    if numpy_mode is None:
        return np.pad(positions, widths, constant_values=-1)
    return np.pad(positions, widths, mode=numpy_mode)  # type: ignore[call-overload]


_X = T((2, 6, 4))
register(
    Spec(
        names=("pad",),
        label=pad,
        size=padded,
        kernel="layout",
        examples=(
            example(_X, [0, 0, 1, 2]),
            example(_X, [1, 1, 0, 0], "reflect"),
            example(_X, [0, 0, -1, 2]),
        ),
    )
)
register(
    Spec(
        names=("constant_pad_nd",),
        label=pad,
        size=padded,
        kernel="layout",
        examples=(example(_X, [0, 0, 1, 2]), example(_X, [-1, 1])),
    )
)
register(
    Spec(
        names=("flip",),
        label=flip,
        size=flipped,
        kernel="layout",
        examples=(example(_X, [1]), example(_X, [1, 2])),
    )
)
register(
    Spec(
        names=("roll",),
        label=roll,
        size=rolled,
        kernel="layout",
        examples=(example(_X, [2], [1]), example(_X, [1], [2])),
    )
)
