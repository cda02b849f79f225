"""Functions of one number: labels pass through."""

from __future__ import annotations

from typing import Any

from dtp_edge.ops.broadcast import broadcast
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.unary import unary
from dtp_edge.ops.values import Arguments, Context, Value


def glu(ctx: Context, a: Arguments, out: Value) -> None:
    """The first half times the sigmoid of the second: index i goes with i + n/2."""
    x = ctx.value(a["self"])
    dim = ctx.dim(a["dim"], x.rank)
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    rows = out.labels[dim]
    if rows is not None:
        half = len(rows) // 2
        ctx.equate(rows[:half], rows[half:])
        out.labels[dim] = rows[:half]


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


_X = T((2, 6, 4))


def _plain(names: str, *args: Any, kind: str = "float", **facts: Any) -> None:
    use = example(T((2, 6, 4), kind), *args)
    register(Spec(names=tuple(names.split()), label=unary, examples=(use,), kernel="elementwise", **facts))


_plain(
    "relu sigmoid tanh silu hardswish hardsigmoid",
    fuses="activation",
    layout="follow",
    aliases={"special_expit": "sigmoid"},
)
_plain("relu6 gelu mish hardtanh leaky_relu elu selu celu softplus log_sigmoid", fuses="activation")
_plain("hardshrink softshrink")
_plain("threshold", 0.1, 0.2)
_plain("rrelu", training_flag="training")
for _name in ("prelu", "_prelu_kernel"):
    _shapes = ((6,), (1,)) if _name == "prelu" else ((1, 6, 1),)
    register(
        Spec(
            names=(_name,),
            label=prelu,
            kernel="elementwise",
            fuses="activation",
            examples=tuple(example(_X, T(shape, "parameter")) for shape in _shapes),
        )
    )
register(Spec(names=("glu",), label=glu, kernel="elementwise", examples=(example(_X, 1), example(_X, 2))))

_plain(
    "exp expm1 exp2 neg abs sign sgn sin cos tan sinh cosh asinh atan erf erfc square floor ceil round trunc"
    " frac nan_to_num sinc reciprocal isnan isinf isfinite positive",
    aliases={
        "special_exp2": "exp2",
        "special_expm1": "expm1",
        "special_erf": "erf",
        "special_erfc": "erfc",
        "special_sinc": "sinc",
        "negative": "neg",
        "absolute": "abs",
        "arctan": "atan",
        "arcsinh": "asinh",
        "fix": "trunc",
    },
)
_plain(
    "log log2 log10 log1p sqrt rsqrt asin acos atanh erfinv logit",
    kind="unit",
    aliases={
        "special_log1p": "log1p",
        "special_erfinv": "erfinv",
        "special_logit": "logit",
        "arcsin": "asin",
        "arccos": "acos",
        "arctanh": "atanh",
    },
)
_plain("acosh", kind="large", aliases={"arccosh": "acosh"})
_plain("logical_not bitwise_not", kind="bool")
_plain("zeros_like ones_like empty_like")
_plain("full_like", 0.5)
_plain("rand_like randn_like")
_plain("zero bernoulli", kind="unit")
register(
    Spec(
        names=("quantize_per_tensor", "dequantize"),
        storable=False,
        label=unary,
        kernel="elementwise",
    )
)
