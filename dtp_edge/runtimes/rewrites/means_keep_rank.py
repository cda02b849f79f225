"""Means over a picture keep its rank, and a reshape that costs nothing drops it: XNNPACK has no others."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from dtp_edge.ops.nodes import arguments_of, op_name, rewrite_each

REWRITE = {
    "formats": ("pte",),
    "about": "means over a picture keep its rank until they are done",
    "kinds": ("mean",),
}
_PICTURE = ({2, 3}, {-2, -1}, {2, -1}, {-2, 3})
_ATEN: Any = torch.ops.aten


def apply(module: Any) -> int:
    """Rewrite a graph in place; return how many such means it had."""
    return rewrite_each(module, ("mean",), _in_two)


def _in_two(module: Any, node: fx.Node, _: int) -> bool:
    if not _is_of_picture(node):
        return False
    with module.graph.inserting_before(node):
        mean = module.graph.call_function(_ATEN.mean.dim, (node.args[0], [2, 3], True))
        flat = module.graph.call_function(_ATEN.squeeze.dims, (mean, [2, 3]))
    node.replace_all_uses_with(flat)
    return True


def _is_of_picture(node: fx.Node) -> bool:
    given = arguments_of(node)
    dims = given.get("dim")
    if given.get("keepdim") or given.get("dtype") is not None or not isinstance(dims, list | tuple):
        return False
    return {*dims} in _PICTURE and _rank(node.args[0]) == 4


def _rank(value: Any) -> int:
    """The rank of a value, where the operators on the way to it say it."""
    while isinstance(value, fx.Node) and value.op == "call_function":
        name = op_name(value)
        if name in ("conv2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"):
            return 4
        if name not in _SAME_RANK:
            return 0
        value = value.args[0] if name != "cat" else value.args[0][0]  # type: ignore[index]
    return 0


_SAME_RANK = (
    *("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "silu", "hardswish", "sigmoid"),
    *("gelu", "batch_norm", "dropout", "cat", "index_select", "slice", "add", "add_", "mul", "clamp"),
)
