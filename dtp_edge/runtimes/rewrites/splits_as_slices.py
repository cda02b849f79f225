"""Splits (chunk, split, split_with_sizes) as slices of their input, which XNNPACK copies itself."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from dtp_edge.ops.nodes import arguments_of, op_name, rewrite_each

REWRITE = {
    "formats": ("pte",),
    "about": "a split is done in slices",
    "kinds": ("split_with_sizes_copy", "split_copy"),
}
_SIZES = {"split": "split_size", "split_with_sizes": "split_sizes", "chunk": "chunks"}


def apply(module: Any) -> int:
    """Rewrite a graph in place; return how many splits it had whose sizes are known."""
    return rewrite_each(module, _SIZES, _sliced)


def _sliced(module: Any, split: fx.Node, _: int) -> bool:
    graph, given = module.graph, arguments_of(split)
    sizes, dim = given[_SIZES[op_name(split)]], int(given.get("dim") or 0)
    parts = list(split.users)
    if not isinstance(sizes, list | tuple) or not all(isinstance(s, int) for s in sizes):
        return False  # of so many each: how many there are is the input's to say
    if not all(part.op == "call_function" and part.target is operator.getitem for part in parts):
        return False
    for part in parts:
        place = int(part.args[1]) % len(sizes)  # type: ignore[arg-type]
        start = sum(sizes[:place])
        with graph.inserting_before(part):
            slice_of = torch.ops.aten.slice.Tensor
            piece = graph.call_function(slice_of, (split.args[0], dim, start, start + sizes[place]))
        part.replace_all_uses_with(piece)
    return True
