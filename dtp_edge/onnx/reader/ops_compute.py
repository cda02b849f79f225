"""Convolution, linear, norms, pooling, activations, arithmetic."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import fx

from dtp_edge.onnx.reader.registry import Context, op

_CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _pads(c: Context, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Return ONNX pads [begin..., end...] whatever way the node names them."""
    auto = c.get("auto_pad", b"NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto in ("NOTSET", ""):
        return list(c.get("pads", [0] * (2 * len(kernel))))
    if auto == "VALID":
        return [0] * (2 * len(kernel))
    begin, end = [], []
    for size, k, s, d in zip(c.shape(0)[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if auto == "SAME_UPPER" else large)
        end.append(large if auto == "SAME_UPPER" else small)
    return begin + end


def _pre_pad(c: Context, x: fx.Node, pads: Sequence[int], value: float = 0.0) -> fx.Node:
    half = len(pads) // 2
    flat = [p for b, e in reversed(list(zip(pads[:half], pads[half:], strict=True))) for p in (b, e)]
    return c.call(F.pad, x, flat, "constant", value)


@op("Conv")
def conv(c: Context) -> fx.Node:
    weight = c.shape(1)
    n = len(weight) - 2
    strides, dilations = c.get("strides", [1] * n), c.get("dilations", [1] * n)
    pads = _pads(c, weight[2:], strides, dilations)
    x, padding = c.value(0), c.symmetric_pads(pads)
    if padding is None:
        x, padding = _pre_pad(c, x, pads), [0] * n
    return c.call(
        _CONVS[n], x, c.value(1), c.optional(2), list(strides), padding, list(dilations), c.get("group", 1)
    )


@op("ConvTranspose")
def conv_transpose(c: Context) -> fx.Node:
    n = len(c.shape(1)) - 2
    padding = c.symmetric_pads(c.get("pads", [0] * (2 * n)))
    if padding is None or "output_shape" in c.attributes or c.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise c.refuse("pads its sides differently")
    return c.call(
        _TRANSPOSED[n],
        c.value(0),
        c.value(1),
        c.optional(2),
        list(c.get("strides", [1] * n)),
        padding,
        list(c.get("output_padding", [0] * n)),
        c.get("group", 1),
        list(c.get("dilations", [1] * n)),
    )


@op("Gemm")
def gemm(c: Context) -> fx.Node:
    if c.get("transA", 0):
        raise c.refuse("transposes its first input")
    weight = c.value(1) if c.get("transB", 0) else c.call(torch.transpose, c.value(1), 0, 1)
    if c.get("alpha", 1.0) == 1.0 and c.get("beta", 1.0) == 1.0 and (not c.has(2) or len(c.shape(2)) == 1):
        return c.call(F.linear, c.value(0), weight, c.optional(2))
    product = c.call(operator.mul, c.call(F.linear, c.value(0), weight), c.get("alpha", 1.0))
    if not c.has(2):
        return product
    return c.call(operator.add, product, c.call(operator.mul, c.value(2), c.get("beta", 1.0)))


@op("MatMul")
def matmul(c: Context) -> fx.Node:
    if c.node.input[1] in c.constants and len(c.shape(1)) == 2:
        return c.call(F.linear, c.value(0), c.call(torch.transpose, c.value(1), 0, 1))
    return c.call(torch.matmul, c.value(0), c.value(1))


@op("Einsum")
def einsum(c: Context) -> fx.Node:
    equation = c.get("equation", b"").decode()
    return c.call(torch.einsum, equation, *[c.value(i) for i in range(len(c.node.input))])


@op("BatchNormalization")
def batch_norm(c: Context) -> fx.Node:
    x, weight, bias, mean, var = (c.value(i) for i in range(5))
    return c.call(F.batch_norm, x, mean, var, weight, bias, False, 0.1, c.get("epsilon", 1e-5))


@op("InstanceNormalization")
def instance_norm(c: Context) -> fx.Node:
    x, weight, bias = (c.value(i) for i in range(3))
    return c.call(F.instance_norm, x, weight=weight, bias=bias, eps=c.get("epsilon", 1e-5))


@op("GroupNormalization")
def group_norm(c: Context) -> fx.Node:
    x, weight, bias = (c.value(i) for i in range(3))
    return c.call(F.group_norm, x, c.get("num_groups", 1), weight, bias, c.get("epsilon", 1e-5))


@op("LayerNormalization")
def layer_norm(c: Context) -> fx.Node:
    shape = c.shape(0)
    axis = c.get("axis", -1) % len(shape)
    return c.call(
        F.layer_norm, c.value(0), list(shape[axis:]), c.value(1), c.optional(2), c.get("epsilon", 1e-5)
    )


@op("MaxPool", "AveragePool")
def pool(c: Context) -> fx.Node:
    kernel = list(c.attributes["kernel_shape"])
    n = len(kernel)
    strides, dilations = list(c.get("strides", [1] * n)), list(c.get("dilations", [1] * n))
    pads, largest = _pads(c, kernel, strides, dilations), c.node.op_type == "MaxPool"
    x, padding, ceil = c.value(0), c.symmetric_pads(pads), bool(c.get("ceil_mode", 0))
    if padding is None and not largest and not c.get("count_include_pad", 0):
        raise c.refuse("averages over unequal pads that it does not count")
    if padding is None or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        x, padding = _pre_pad(c, x, pads, float("-inf") if largest else 0.0), [0] * n
    if largest:
        return c.call(_MAX_POOLS[n], x, kernel, strides, padding, dilations, ceil)
    return c.call(_AVERAGE_POOLS[n], x, kernel, strides, padding, ceil, bool(c.get("count_include_pad", 0)))


@op("GlobalAveragePool", "GlobalMaxPool")
def global_pool(c: Context) -> fx.Node:
    dims = list(range(2, len(c.shape(0))))
    function = torch.mean if c.node.op_type == "GlobalAveragePool" else torch.amax
    return c.call(function, c.value(0), dim=dims, keepdim=True)


_UNARY = {
    "Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "HardSwish": F.hardswish, "Erf": torch.erf,
    "Softplus": F.softplus, "Mish": F.mish, "Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log,
    "Neg": torch.neg, "Abs": torch.abs, "Reciprocal": torch.reciprocal, "Floor": torch.floor,
    "Ceil": torch.ceil, "Sin": torch.sin, "Cos": torch.cos, "Softsign": F.softsign,
}  # fmt: skip


@op(*_UNARY)
def unary(c: Context) -> fx.Node:
    return c.call(_UNARY[c.node.op_type], c.value(0))


_BINARY = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Pow": torch.pow,
    "Max": torch.maximum, "Min": torch.minimum,
}  # fmt: skip


@op(*_BINARY)
def binary(c: Context) -> fx.Node:
    values = [_number_or_value(c, i) for i in range(len(c.node.input))]
    if c.node.op_type in ("Max", "Min"):
        values = [c.value(i) for i in range(len(c.node.input))]
    total = values[0]
    for value in values[1:]:
        total = c.call(_BINARY[c.node.op_type], total, value)
    return total  # pyright: ignore[reportReturnType]


def _number_or_value(c: Context, index: int) -> fx.Node | float:
    """A constant with one element is a plain number: no parameter that surgery would have to carry."""
    found = c.constants.get(c.node.input[index])
    if index > 0 and found is not None and found.size == 1:
        return float(found.reshape(()))
    return c.value(index)


@op("Sum")
def sum_of(c: Context) -> fx.Node:
    total = c.value(0)
    for i in range(1, len(c.node.input)):
        total = c.call(torch.add, total, c.value(i))
    return total


@op("LeakyRelu", "Elu", "HardSigmoid", "Gelu", "Selu", "Celu")
def activation(c: Context) -> fx.Node:
    x, name = c.value(0), c.node.op_type
    if name == "LeakyRelu":
        return c.call(F.leaky_relu, x, c.get("alpha", 0.01))
    if name in ("Elu", "Celu"):
        return c.call(F.elu if name == "Elu" else F.celu, x, c.get("alpha", 1.0))
    if name == "Selu":
        return c.call(F.selu, x)
    if name == "Gelu":
        return c.call(F.gelu, x, approximate=c.get("approximate", b"none").decode())
    scaled = c.call(operator.add, c.call(operator.mul, x, c.get("alpha", 0.2)), c.get("beta", 0.5))
    return c.call(torch.clamp, scaled, 0.0, 1.0)


@op("PRelu")
def prelu(c: Context) -> fx.Node:
    slope, rank = c.shape(1), len(c.shape(0))
    if rank > 2 and len(slope) == rank - 1 and all(s == 1 for s in slope[1:]):
        return c.call(F.prelu, c.value(0), c.call(torch.flatten, c.value(1)))
    positive = c.call(torch.clamp, c.value(0), min=0.0)
    negative = c.call(torch.mul, c.call(torch.clamp, c.value(0), max=0.0), c.value(1))
    return c.call(torch.add, positive, negative)


@op("Clip")
def clip(c: Context) -> fx.Node:
    low = float(c.constant(1).reshape(())) if c.has(1) else c.get("min", None)
    high = float(c.constant(2).reshape(())) if c.has(2) else c.get("max", None)
    if low == 0.0 and high == 6.0:
        return c.call(F.relu6, c.value(0))
    return c.call(torch.clamp, c.value(0), low, high)


@op("Softmax", "LogSoftmax")
def softmax(c: Context) -> fx.Node:
    function = F.softmax if c.node.op_type == "Softmax" else F.log_softmax
    return c.call(function, c.value(0), dim=c.get("axis", -1))


@op("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2")
def reduce(c: Context) -> fx.Node:
    axes, keep = c.integers(1, "axes"), bool(c.get("keepdims", 1))
    axes = axes if axes else list(range(len(c.shape(0))))
    functions = {
        "ReduceMean": torch.mean,
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
        "ReduceMin": torch.amin,
    }
    if c.node.op_type == "ReduceL2":
        return c.call(torch.linalg.vector_norm, c.value(0), 2, axes, keep)
    return c.call(functions[c.node.op_type], c.value(0), dim=axes, keepdim=keep)
