"""Permutations of dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.ops.refusal import NotCovered
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value


def permute(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    for position, dim in enumerate(permutation(ctx.op, a, x.rank)):
        out.labels[position] = ctx.read(x, dim)


def permutation(op: str, a: Arguments, rank: int) -> list[int]:
    """Return for every output dimension the input dimension that it is."""
    order = list(range(rank))
    if op == "permute":
        return [d % rank for d in a["dims"]]
    if op in ("t", "numpy_T"):
        return order[::-1]
    if op in ("mT", "matrix_H"):
        return [*order[:-2], rank - 1, rank - 2]
    if op in ("movedim", "moveaxis"):
        return [int(i) for i in _moved(order, a["source"], a["destination"])]
    if not rank:
        raise NotCovered("a tensor without dimensions")
    one, two = (a[k] % rank for k in (("dim0", "dim1") if "dim0" in a else ("axis0", "axis1")))
    order[one], order[two] = order[two], order[one]
    return order


def _moved(order: list[int], source: Any, destination: Any) -> np.ndarray:
    sizes = np.arange(len(order)) + 2  # distinct sizes tell where each dimension went
    moved = np.moveaxis(np.broadcast_to(np.zeros(1), sizes), source, destination)
    return np.asarray(moved.shape) - 2


_X = T((2, 6, 4))
for _names, _args, _aliases in (
    (("permute",), ([0, 2, 1],), {}),
    (("transpose",), (1, 2), {"swapaxes": "transpose", "swapdims": "transpose"}),
    (("movedim",), (1, 2), {"moveaxis": "movedim"}),
    (("numpy_T", "mT", "matrix_H"), (), {}),
    (("t",), (), {}),
):
    _uses = (example(T((5, 6)) if _names[-1] in ("t", "matrix_H") else _X, *_args),)
    register(
        Spec(
            names=_names,
            aliases=_aliases,
            label=permute,
            kernel="layout",
            memory="view",
            moves=_names[0] in ("permute", "transpose"),
            examples=_uses,
        )
    )
