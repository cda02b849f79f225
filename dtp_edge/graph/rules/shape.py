"""Reshapes and permutations: merge label arrays into products, and take them apart again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from dtp_edge.graph.labels import Rows
from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.values import UNSET, Context, Value, join


@rule("view", "reshape", "flatten", "unflatten", "_unsafe_view", "view_as", "reshape_as", "ravel")
@rule("squeeze", "unsqueeze", "squeeze_dims")
def reshape(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    for ins, outs in segments(x.shape, out.shape):
        _reshape_segment(ctx, x, ins, out, outs)


def _reshape_segment(ctx: Context, x: Value, ins: list[int], out: Value, outs: list[int]) -> None:
    """Relabel one block: cut its input dimensions at the borders of the output's, then join the pieces."""
    for d in ins:
        if x.shape[d] == 1:
            ctx.freeze(x.labels[d], "a dimension of one that is reshaped")
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
        sizes = _take(pieces, size, len(parts))
        parts.extend(zip(unfold(ctx, rows, sizes), sizes, strict=True))
    for d in wide:
        sizes = _take(pieces, out.shape[d], len(pieces) - len(parts))
        out.labels[d] = join(parts[: len(sizes)])
        parts = parts[len(sizes) :]


def common_pieces(before: list[int], after: list[int]) -> list[int] | None:
    """Return the sizes whose borders include those of both shapes, None if they cross."""
    borders = {1}
    for shape in (before, after):
        borders.update(int(np.prod(shape[k:])) for k in range(len(shape)))
    ordered = sorted(borders, reverse=True)
    ratios = list(pairwise(ordered))
    return None if any(a % b for a, b in ratios) else [a // b for a, b in ratios]


def _take(pieces: list[int], size: int, start: int) -> list[int]:
    """Return the pieces from `start` on whose product is `size`."""
    taken: list[int] = []
    while int(np.prod(taken)) < size:
        taken.append(pieces[start + len(taken)])
    return taken


def segments(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Match dimensions of two shapes of equal volume into the smallest blocks of equal volume."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        ins, outs, left, right = [], [], 1, 1
        while True:
            if left == right and (ins or outs) and left != 1:
                break
            if left <= right and i < len(before):
                left *= before[i]
                ins.append(i)
                i += 1
            elif j < len(after):
                right *= after[j]
                outs.append(j)
                j += 1
            elif i < len(before):
                left *= before[i]
                ins.append(i)
                i += 1
            else:
                break
        found.append((ins, outs))
    return found


def unfold(ctx: Context, rows: Rows | None, sizes: list[int]) -> list[Rows | None]:
    """Take a flattened dimension apart into dimensions of the given sizes.

    A column of labels that varies along one of them only belongs to it. Otherwise each index becomes
    the product of fresh atoms of the dimensions along which it varies, because what is kept must stay
    a rectangle.
    """
    if rows is None or len(sizes) == 1:
        return [rows] + [None] * (len(sizes) - 1)
    rows = ctx.atoms.expand(rows)
    found: list[list[Rows]] = [[] for _ in sizes]
    for k in range(rows.shape[1]):
        column = rows[:, k].reshape(sizes)
        varies = [axis for axis in range(len(sizes)) if (column != np.take(column, [0], axis=axis)).any()]
        if len(varies) <= 1:
            axis = varies[0] if varies else 0
            along = np.moveaxis(column, axis, 0).reshape(sizes[axis], -1)[:, :1]
            found[axis].append(along)
        else:
            for axis, part in _factor(ctx, rows[:, k : k + 1], sizes, varies):
                found[axis].append(part)
    return [_side_by_side(parts) for parts in found]


def _factor(ctx: Context, column: Rows, sizes: list[int], varies: list[int]) -> list[tuple[int, Rows]]:
    factors: list[tuple[int, Rows]] = []
    wide = []
    for axis in varies:
        part = ctx.fresh(sizes[axis], "inner" if axis == varies[-1] else "heads")
        factors.append((axis, part))
        inner = int(np.prod(sizes[axis + 1 :]))
        outer = int(np.prod(sizes[:axis]))
        wide.append(np.tile(np.repeat(part, inner, axis=0), (outer, 1)))
    ctx.equate(column, np.concatenate(wide, axis=1))
    return factors


def _side_by_side(parts: list[Rows]) -> Rows | None:
    kept = [p for p in parts if (p >= 0).any()]
    return np.concatenate(kept, axis=1) if kept else None


@rule("permute", "transpose", "t", "movedim", "moveaxis", "swapaxes", "swapdims", "numpy_T", "mT", "matrix_H")
def permute(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    for position, dim in enumerate(permutation(ctx.op, a, x.rank)):
        out.labels[position] = ctx.read(x, dim)


def permutation(op: str, a: Arguments, rank: int) -> list[int]:
    """Return for every output dimension the input dimension that it is."""
    order = list(range(rank))
    if op == "permute":
        return [int(d) % rank for d in a["dims"]]
    if op in ("t", "numpy_T"):
        return order[::-1]
    if op in ("mT", "matrix_H"):
        return [*order[:-2], rank - 1, rank - 2]
    if op in ("movedim", "moveaxis"):
        return [int(i) for i in _moved(order, a["source"], a["destination"])]
    one, two = (int(a[k]) % rank for k in (("dim0", "dim1") if "dim0" in a else ("axis0", "axis1")))
    order[one], order[two] = order[two], order[one]
    return order


def _moved(order: list[int], source: Any, destination: Any) -> np.ndarray:
    sizes = np.arange(len(order)) + 2  # distinct sizes tell where each dimension went
    moved = np.moveaxis(np.broadcast_to(np.zeros(1), sizes), source, destination)
    return np.asarray(moved.shape) - 2


@rule("expand", "expand_as", "broadcast_to")
def expand(ctx: Context, a: Arguments, out: Value) -> None:
    """Stretched dimensions hold the same everywhere, so they take any label; the others pass through."""
    x = ctx.value(a["self"])
    shift = out.rank - x.rank
    for dim in range(out.rank):
        out.labels[dim] = None if out.shape[dim] == 1 or out.fixed[dim] else UNSET
    for dim in range(x.rank):
        if x.shape[dim] == out.shape[dim + shift]:
            out.labels[dim + shift] = ctx.read(x, dim) if x.shape[dim] != 1 else None
        else:
            ctx.freeze(x.labels[dim] if x.source is None else None, "a dimension of one that is stretched")


@rule("pixel_shuffle")
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
        ctx.freeze(ctx.read(x, x.rank + dim), f"{ctx.op} over a labelled spatial dimension")
    return [ctx.read(x, d) for d in range(x.rank - 2)] + [None, None]


@rule("pixel_unshuffle")
def pixel_unshuffle(ctx: Context, a: Arguments, out: Value) -> None:
    x, r = ctx.value(a["self"]), int(a["downscale_factor"])
    out.labels[:] = _whole_image(ctx, x)
    rows = out.labels[-3]
    if rows is not None:
        out.labels[-3] = np.repeat(rows, r * r, axis=0)


@rule("im2col")
def im2col(ctx: Context, a: Arguments, out: Value) -> None:
    """[b, c, h, w] -> [b, c k, places]: each channel becomes its k places of the kernel."""
    x, places = ctx.value(a["self"]), int(np.prod(a["kernel_size"]))
    rows = _whole_image(ctx, x)[-3]
    out.labels[:-2] = [ctx.read(x, d) for d in range(x.rank - 3)]
    out.labels[-2] = None if rows is None else np.repeat(rows, places, axis=0)


@rule("col2im")
def col2im(ctx: Context, a: Arguments, out: Value) -> None:
    """[b, c k, places] -> [b, c, h, w]: the k places of a channel go together."""
    x, places = ctx.value(a["self"]), int(np.prod(a["kernel_size"]))
    ctx.freeze(ctx.read(x, x.rank - 1), "col2im over a labelled spatial dimension")
    out.labels[:-3] = [ctx.read(x, d) for d in range(x.rank - 2)]
    rows = ctx.read(x, x.rank - 2)
    if rows is not None:
        ctx.equate(rows, np.repeat(rows[::places], places, axis=0))
        out.labels[-3] = rows[::places]


@rule("unfold")
def unfold_windows(ctx: Context, a: Arguments, out: Value) -> None:
    """Tensor.unfold: windows along one dimension, their places in a new last one; the others pass."""
    x, dim = ctx.value(a["self"]), int(a["dimension"]) % max(1, ctx.value(a["self"]).rank)
    ctx.freeze(ctx.read(x, dim), "windows over a labelled dimension")
    out.labels[:-1] = [None if d == dim else ctx.read(x, d) for d in range(x.rank)]


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(ctx: Context, a: Arguments, out: Value) -> None:
    """A fixed permutation of the channels, tied so that it stays one: the same offsets in every group."""
    x, groups = ctx.value(a["self"]), int(a["groups"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    rows = out.labels[1]
    if rows is not None:
        ctx.equate(rows, np.tile(rows[: len(rows) // groups], (groups, 1)))
        out.labels[1] = rows.reshape(groups, -1, rows.shape[1]).transpose(1, 0, 2).reshape(len(rows), -1)


@rule("repeat", "tile")
def repeat(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    shift = out.rank - x.rank
    for dim in range(x.rank):
        times = out.shape[dim + shift] // x.shape[dim]
        rows = ctx.read(x, dim) if x.shape[dim] != 1 else None
        out.labels[dim + shift] = rows if rows is None or times == 1 else np.tile(rows, (times, 1))


@rule("repeat_interleave")
def repeat_interleave(ctx: Context, a: Arguments, out: Value) -> None:
    x, dim = ctx.value(a["self"]), int(a["dim"]) % out.rank
    assert isinstance(a["repeats"], int)
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    if out.labels[dim] is not None:
        out.labels[dim] = np.repeat(out.labels[dim], a["repeats"], axis=0)
