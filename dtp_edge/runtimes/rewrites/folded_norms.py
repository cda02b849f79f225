"""A batch norm in eval mode is a scale and a shift: folded into the convolution before it, its only reader.

Exporters that fold it themselves lose nothing; portable kernels and memory planners win a buffer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from dtp_edge.ops.nodes import arguments_of, lookup, op_name

REWRITE = {
    "formats": ("pte", "tflite"),
    "about": "batch norms are folded into the convolutions before them",
    "kinds": ("batch_norm", "_native_batch_norm_legit_no_training"),
}
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")


def apply(module: Any) -> int:
    count = 0
    for norm in list(module.graph.nodes):
        if norm.op == "call_function" and op_name(norm) == "batch_norm" and _fold(module, norm, count):
            count += 1
    if count:
        module.graph.eliminate_dead_code()
        module.graph.lint()
        module.recompile()
    return count


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
        wide = factor.reshape(-1, *[1] * (weight.ndim - 1))
        tensors = {f"_folded_weight_{number}": weight * wide, f"_folded_bias_{number}": moved}
    with module.graph.inserting_before(conv):
        for name, tensor in tensors.items():
            module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        weights, biases = (module.graph.get_attr(name) for name in tensors)
    conv.args = (inside["input"], weights, biases, *conv.args[3:])
    conv.kwargs = {k: v for k, v in conv.kwargs.items() if k not in ("input", "weight", "bias")}
    norm.replace_all_uses_with(conv)
    return True


def _tensor(module: Any, node: Any) -> torch.Tensor | None:
    if isinstance(node, fx.Node) and node.op == "get_attr":
        return lookup(module, str(node.target)).detach()
    return None
