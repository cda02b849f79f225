"""Operators that act index by index: labels of broadcast dimensions are the same labels."""

from __future__ import annotations

from typing import Any

from dtp_edge.graph.labels import Rows
from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.values import UNSET, Context, Value

UNARY = [
    "relu",
    "relu6",
    "gelu",
    "silu",
    "mish",
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "logsigmoid",
    "log_sigmoid",
    "tanhshrink",
    "hardshrink",
    "softshrink",
    "threshold",
    "exp",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "abs",
    "neg",
    "sign",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "erf",
    "erfc",
    "erfinv",
    "reciprocal",
    "square",
    "floor",
    "ceil",
    "round",
    "trunc",
    "frac",
    "isnan",
    "isinf",
    "isfinite",
    "logical_not",
    "bitwise_not",
    "nan_to_num",
    "dropout",
    "alpha_dropout",
    "feature_dropout",
    "feature_alpha_dropout",
    "contiguous",
    "clone",
    "alias",
    "detach",
    "to",
    "_to_copy",
    "type_as",
    "positive",
    "rrelu",
    "sgn",
    "lift_fresh_copy",
    "lift_fresh",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
    "zero",
    "quantize_per_tensor",
    "dequantize",
    "float",
    "half",
    "double",
    "int",
    "long",
    "bool",
    "_assert_tensor_metadata",
    "native_dropout",
    "requires_grad",
    "absolute",
    "negative",
    "arccos",
    "arcsin",
    "arctan",
    "exp2",
    "sinc",
    "asinh",
    "acosh",
    "atanh",
    "logit",
    "special_expit",
    "resolve_conj",
    "resolve_neg",
]
POINTWISE = [
    "add",
    "sub",
    "mul",
    "div",
    "true_divide",
    "floor_divide",
    "remainder",
    "fmod",
    "pow",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "atan2",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "where",
    "masked_fill",
    "lerp",
    "addcmul",
    "addcdiv",
    "copy",
    "copysign",
    "hypot",
    "xlogy",
    "__and__",
    "__or__",
    "__xor__",
    "float_power",
    "heaviside",
    "logaddexp",
    "clamp",
    "clamp_min",
    "clamp_max",
    "clip",
    "rsub",
    "fill",
    "bernoulli",
    "multiply",
    "divide",
    "subtract",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "not_equal",
    "logaddexp2",
    "ldexp",
]


@rule(*UNARY)
def unary(ctx: Context, a: Arguments, out: Any) -> None:
    x = next(v for v in (ctx.value(node) for node in ctx.node.all_input_nodes) if isinstance(v, Value))
    for value in out if isinstance(out, list) else [out]:
        value.labels[:] = [ctx.read(x, d) for d in range(x.rank)]


@rule(*POINTWISE)
def pointwise(ctx: Context, a: Arguments, out: Value) -> None:
    values = [ctx.values[n] for n in ctx.node.all_input_nodes if isinstance(ctx.values.get(n), Value)]
    out.labels[:] = broadcast(ctx, values, out)


@rule("glu")
def glu(ctx: Context, a: Arguments, out: Value) -> None:
    """The first half times the sigmoid of the second: index i goes with i + n/2."""
    x = ctx.value(a["self"])
    dim = int(a["dim"]) % x.rank
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    rows = out.labels[dim]
    if rows is not None:
        half = len(rows) // 2
        ctx.equate(rows[:half], rows[half:])
        out.labels[dim] = rows[:half]


@rule("prelu", "_prelu_kernel")
def prelu(ctx: Context, a: Arguments, out: Value) -> None:
    """One slope a channel, or one for all."""
    x, weight = ctx.value(a["self"]), ctx.value(a["weight"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    if weight.rank == 1 and x.rank > 1:
        if weight.shape[0] == x.shape[1]:
            ctx.bind(weight, 0, out.labels[1])
        else:
            ctx.bind(weight, 0, None)
    elif weight.rank > 1:
        broadcast(ctx, [weight, out], out)


def broadcast(ctx: Context, values: list[Value], out: Value) -> list[Rows | None]:
    """Unite aligned dimensions of the values and return the labels of the result.

    A dimension of size one that is stretched carries nothing; a parameter takes the labels that it meets.
    """
    labels: list[Rows | None] = []
    for position in range(out.rank):
        back = out.rank - position
        met = [(v, v.rank - back) for v in values if v.rank >= back]
        for v, d in met:
            if v.shape[d] == 1 and v.labels[d] is UNSET:
                v.labels[d] = None
        full = [(v, d) for v, d in met if v.shape[d] == out.shape[position]]
        labels.append(_unite(ctx, full) if out.shape[position] != 1 else None)
        for v, d in met:
            if v.shape[d] == 1 and out.shape[position] != 1:
                ctx.freeze(v.labels[d], "a dimension of one that is stretched")
    return labels


def _unite(ctx: Context, dims: list[tuple[Value, int]]) -> Rows | None:
    known = [(v, d) for v, d in dims if v.labels[d] is not UNSET]
    if not known:
        known = dims[:1]
        ctx.read(*dims[0])
    first = known[0][0].labels[known[0][1]]
    for value, dim in dims:
        ctx.bind(value, dim, first)
    if first is not None and any(v.labels[d] is None for v, d in dims):
        return None
    return first
