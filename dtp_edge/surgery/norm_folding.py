"""A batch norm in eval mode is a scale and a shift: folded into the convolution before it, its only reader.

Exporters that fold it themselves lose nothing; portable kernels and memory planners win a buffer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from dtp_edge.ops.nodes import arguments_of, lookup, op_name, rewrite_each

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")


def fold_norms(module: Any) -> int:
    """Fold every such norm of a graph, in place; return how many."""
    return rewrite_each(module, ("batch_norm",), _fold)


def _fold(module: Any, norm: fx.Node, number: int) -> bool:
    given = arguments_of(norm)
    conv = given["input"]
    if not (isinstance(conv, fx.Node) and op_name(conv) in _CONVOLUTIONS and len(conv.users) == 1):
        return False
    inside = arguments_of(conv)
    mean, var, scale, shift = (
        _tensor(module, given[k]) for k in ("running_mean", "running_var", "weight", "bias")
    )
    weight, bias = _tensor(module, inside["weight"]), _tensor(module, inside["bias"])
    if weight is None or mean is None or var is None or (inside["bias"] is not None and bias is None):
        return False
    with torch.no_grad():
        factor = torch.rsqrt(var + given["eps"]) * (1.0 if scale is None else scale)
        moved = (-mean if bias is None else bias - mean) * factor
        moved = moved if shift is None else moved + shift
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    with module.graph.inserting_before(conv):
        names = _homes(module, inside["weight"], conv, number)
        for name, tensor in zip(names, (weight, moved), strict=True):
            _put(module, name, tensor)
        weights, biases = (module.graph.get_attr(name) for name in names)
    conv.args = (inside["input"], weights, biases, *conv.args[3:])
    conv.kwargs = {k: v for k, v in conv.kwargs.items() if k not in ("input", "weight", "bias")}
    norm.replace_all_uses_with(conv)
    return True


def _homes(module: Any, weight: fx.Node, conv: fx.Node, number: int) -> tuple[str, str]:
    """Return names for folded tensors: the convolution's own, or new ones where others read its weight."""
    target = str(weight.target)
    readers = [n for n in module.graph.nodes if n.op == "get_attr" and n.target == target]
    if target.endswith(".weight") and readers == [weight] and set(weight.users) == {conv}:
        return target, f"{target.removesuffix('.weight')}.bias"
    return f"_folded_weight_{number}", f"_folded_bias_{number}"


def _put(module: Any, name: str, tensor: torch.Tensor) -> None:
    parent, _, leaf = name.rpartition(".")
    owner = lookup(module, parent) if parent else module
    owner.register_parameter(leaf, nn.Parameter(tensor.clone()))


def _tensor(module: Any, node: Any) -> torch.Tensor | None:
    if isinstance(node, fx.Node) and node.op == "get_attr":
        return lookup(module, str(node.target)).detach()
    return None
