"""Flattened dimensions: matched between two shapes, and taken apart into the factors that they hold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dtp_edge.ops.labels import Rows
from dtp_edge.ops.values import Context


def common_pieces(before: list[int], after: list[int]) -> list[int] | None:
    """Return the sizes whose borders include those of both shapes, None if they cross."""
    borders = {1}
    for shape in (before, after):
        borders.update(int(np.prod(shape[k:])) for k in range(len(shape)))
    ordered = sorted(borders, reverse=True)
    ratios = list(pairwise(ordered))
    return None if any(a % b for a, b in ratios) else [a // b for a, b in ratios]


def take(pieces: list[int], size: int, start: int) -> list[int]:
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
