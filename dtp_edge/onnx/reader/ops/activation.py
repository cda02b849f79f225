"""Functions of one value, and activations with attributes."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Value

_UNARY = {
    "Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "HardSwish": F.hardswish, "Erf": torch.erf,
    "Softplus": F.softplus, "Mish": F.mish, "Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log,
    "Neg": torch.neg, "Abs": torch.abs, "Reciprocal": torch.reciprocal, "Floor": torch.floor,
    "Ceil": torch.ceil, "Round": torch.round, "Sign": torch.sign, "Sin": torch.sin, "Cos": torch.cos,
    "Tan": torch.tan, "Asin": torch.asin, "Acos": torch.acos, "Atan": torch.atan, "Sinh": torch.sinh,
    "Cosh": torch.cosh, "Asinh": torch.asinh, "Acosh": torch.acosh, "Atanh": torch.atanh,
    "Softsign": F.softsign, "IsNaN": torch.isnan, "Not": torch.logical_not, "BitwiseNot": torch.bitwise_not,
}  # fmt: skip


@op(*_UNARY)
def unary(c: Context) -> Value:
    return c.call(_UNARY[c.type], c.value(0))


@op("IsInf")
def is_inf(c: Context) -> Value:
    up, down = c.flag("detect_positive", 1), c.flag("detect_negative", 1)
    if not up and not down:
        raise c.refuse("tests for no infinity at all")
    function = torch.isinf if up and down else torch.isposinf if up else torch.isneginf
    return c.call(function, c.value(0))


@op("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "Shrink")
def with_alpha(c: Context) -> Value:
    x, name = c.value(0), c.type
    if name == "Shrink":
        return c.call(_shrink, x, c.get("lambd", 0.5), c.get("bias", 0.0))
    alpha = float(c.get("alpha", 0.01 if name == "LeakyRelu" else 1.0))
    if name == "ThresholdedRelu":
        return c.call(F.threshold, x, alpha, 0.0)
    return c.call({"LeakyRelu": F.leaky_relu, "Elu": F.elu, "Celu": F.celu}[name], x, alpha)


def _shrink(x: torch.Tensor, lambd: float, bias: float) -> torch.Tensor:
    return torch.where(x > lambd, x - bias, 0.0) + torch.where(x < -lambd, x + bias, 0.0)


SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


@op("Selu")
def selu(c: Context) -> Value:
    alpha, gamma = float(c.get("alpha", SELU_ALPHA)), float(c.get("gamma", SELU_GAMMA))
    if abs(alpha - SELU_ALPHA) < 1e-6 and abs(gamma - SELU_GAMMA) < 1e-6:
        return c.call(F.selu, c.value(0))
    return c.call(torch.mul, c.call(F.elu, c.value(0), alpha), gamma)


@op("Gelu")
def gelu(c: Context) -> Value:
    return c.call(F.gelu, c.value(0), approximate=c.get("approximate", "none"))


@op("HardSigmoid")
def hard_sigmoid(c: Context) -> Value:
    scaled = c.call(torch.add, c.call(torch.mul, c.value(0), c.get("alpha", 0.2)), c.get("beta", 0.5))
    return c.call(torch.clamp, scaled, 0.0, 1.0)


@op("Swish")
def swish(c: Context) -> Value:
    alpha = float(c.get("alpha", 1.0))
    if alpha == 1.0:
        return c.call(F.silu, c.value(0))
    gate = c.call(torch.sigmoid, c.call(torch.mul, c.value(0), alpha))
    return c.call(torch.mul, c.value(0), gate)


@op("PRelu")
def prelu(c: Context) -> Value:
    x, slope = c.value(0), c.value(1)
    rank, shape = len(x.shape), slope.shape
    one_a_channel = rank > 2 and len(shape) == rank - 1 and all(s == 1 for s in shape[1:])
    if slope.constant and (one_a_channel or all(s == 1 for s in shape)):
        return c.call(F.prelu, x, c.call(torch.reshape, slope, [-1]))
    positive = c.call(torch.clamp, x, min=0.0)
    return c.call(torch.add, positive, c.call(torch.mul, c.call(torch.clamp, x, max=0.0), slope))


@op("Clip")
def clip(c: Context) -> Value:
    if not all(c.value(i).constant for i in (1, 2) if c.has(i)):
        value = c.call(torch.maximum, c.value(0), c.value(1)) if c.has(1) else c.value(0)
        return c.call(torch.minimum, value, c.value(2)) if c.has(2) else value
    low, high = _limit(c, 1, "min"), _limit(c, 2, "max")
    if low == 0.0 and high == 6.0:
        return c.call(F.relu6, c.value(0))
    if low is None and high is None:
        return c.value(0)
    return c.call(torch.clamp, c.value(0), low, high)


def _limit(c: Context, index: int, name: str) -> float | int | None:
    found = c.number(index, name)
    return found if found is None or c.value(0).dtype.is_floating_point else int(found)
