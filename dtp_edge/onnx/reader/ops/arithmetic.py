"""Arithmetic, comparisons and logic of two values or more."""

from __future__ import annotations

import functools

import torch

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Value

_BINARY = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Max": torch.maximum, "Min": torch.minimum,
    "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt,
    "LessOrEqual": torch.le, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor,
}  # fmt: skip
_MANY = ("Max", "Min")  # take any number of inputs, and tensors only


@op(*_BINARY)
def binary(c: Context) -> Value:
    values = [c.value(i) for i in range(c.count())]
    if c.type in _MANY:
        return functools.reduce(lambda a, b: c.call(_BINARY[c.type], a, b), values)
    if c.type == "Equal":
        _note(c, values)
    return c.call(_BINARY[c.type], values[0], number(values[1], values[0]))


def _note(c: Context, values: list[Value]) -> None:
    """A network that asks for a certain number (a sample rate, say) is proved at that number too."""
    for one, other in (values, reversed(values)):
        if one.constant and not other.fixed and one.sample.numel() == 1 and not one.dtype.is_floating_point:
            c.builder.compared.append(int(one.sample.reshape(())))


def number(value: Value, other: Value) -> Value | float | int:
    """A constant with one element is a plain number: no parameter that surgery would have to carry.

    It stays a tensor where its rank widens the result, or where all is known anyway.
    """
    plain = value.constant and value.sample.numel() == 1 and len(value.shape) <= len(other.shape)
    if not plain or other.constant or value.dtype == torch.bool:
        return value
    return value.sample.reshape(()).item()


@op("Div")
def divide(c: Context) -> Value:
    """Whole numbers are divided towards zero."""
    x, y = c.value(0), c.value(1)
    if x.dtype.is_floating_point:
        return c.call(torch.div, x, number(y, x))
    return c.call(torch.div, x, y, rounding_mode="trunc")


@op("Mod")
def modulo(c: Context) -> Value:
    """The sign is the divisor's, with `fmod` the dividend's."""
    return c.call(torch.fmod if c.flag("fmod") else torch.remainder, c.value(0), c.value(1))


@op("Pow")
def power(c: Context) -> Value:
    """The result has the type of the base."""
    x, y = c.value(0), c.value(1)
    made = c.call(torch.pow, x, number(y, x))
    return made if made.dtype == x.dtype else c.call(torch.Tensor.to, made, x.dtype)


@op("Sum", "Mean")
def sum_of(c: Context) -> Value:
    values = [c.value(i) for i in range(c.count())]
    total = functools.reduce(lambda a, b: c.call(torch.add, a, b), values)
    return total if c.type == "Sum" else c.call(torch.mul, total, 1.0 / len(values))


@op("Where")
def where(c: Context) -> Value:
    return c.call(torch.where, c.value(0), c.value(1), c.value(2))
