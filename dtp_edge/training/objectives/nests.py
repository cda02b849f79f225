"""Batches as nests of tensors, dicts, lists and values: moved, cast, measured and cut as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from dtp_edge.errors import InputError

__all__ = ["chunks", "in_float32", "joined", "length", "mapped", "moved"]


def mapped(change: Callable[[Any], Any], nest: Any) -> Any:
    """Return `nest` with `change` made to its leaves; dataclasses are opened too."""

    def leaf(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{f.name: mapped(change, getattr(value, f.name)) for f in fields(value)})
        return change(value)

    return tree_map(leaf, nest)


def moved(nest: Any, device: torch.device | str) -> Any:
    """Return `nest` with all that can be moved on `device`: tensors, and whatever has `to`."""
    return mapped(lambda value: value.to(device) if hasattr(value, "to") else value, nest)


def in_float32(nest: Any) -> Any:
    """Return `nest` with its float tensors in float32."""
    return mapped(lambda v: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v, nest)


def length(nest: Any) -> int:
    """Return the length of the first tensor in `nest` that has a dimension; 0 where there is none."""
    found = tree_leaves((nest.args, dict(nest.kwargs)) if hasattr(nest, "kwargs") else nest)
    return next((len(t) for t in found if isinstance(t, Tensor) and t.dim()), 0)


def joined(batches: Sequence[Any]) -> Any:
    """Return one batch of several: tensors end to end, what else there is from the first."""
    flat = [tree_flatten(batch) for batch in batches]
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    whole = [torch.cat(c) if all(isinstance(x, Tensor) and x.dim() for x in c) else c[0] for c in columns]
    return tree_unflatten(whole, flat[0][1])


def chunks(batch: Any, size: int, count: int) -> list[Any]:
    """Return `batch` in at most `count` parts, as `Tensor.chunk` cuts: what has `size` entries is cut.

    Raises `InputError` where a tensor has another length: nobody knows which of its rows go where.
    """
    if count == 1:
        return [batch]
    step = -(-size // count)
    return [_rows(batch, slice(start, start + step), size) for start in range(0, size, step)]


def _rows(nest: Any, rows: slice, size: int) -> Any:
    if isinstance(nest, Tensor):
        if nest.dim() and len(nest) != size:
            raise InputError(
                f"a tensor {list(nest.shape)} in a batch of {size} cannot be cut into parts",
                where="accumulate",
                hint="Give the objective a method `parts(batch, count)`, or set accumulate=1.",
            )
        return nest[rows] if nest.dim() else nest
    if isinstance(nest, (list, tuple)) and len(nest) == size and not _stacked(nest, size):
        return type(nest)(nest[rows]) if not hasattr(nest, "_fields") else nest
    if isinstance(nest, dict):
        return type(nest)((key, _rows(value, rows, size)) for key, value in nest.items())
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(_rows(value, rows, size) for value in nest))
    if isinstance(nest, (list, tuple)):
        return type(nest)(_rows(value, rows, size) for value in nest)
    return nest


def _stacked(nest: Any, size: int) -> bool:
    """Whether a list as long as the batch holds whole columns all the same: a pair of a batch of two."""
    return all(isinstance(v, Tensor) and v.dim() and len(v) == size for v in nest)
