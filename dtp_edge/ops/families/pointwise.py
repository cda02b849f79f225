"""Functions of several tensors, index by index: labels of broadcast dimensions are the same labels."""

from __future__ import annotations

from typing import Any

from dtp_edge.ops.broadcast import broadcast
from dtp_edge.ops.spec import Example, Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value


def pointwise(ctx: Context, a: Arguments, out: Value) -> None:
    values = [ctx.values[n] for n in ctx.node.all_input_nodes if isinstance(ctx.values.get(n), Value)]
    out.labels[:] = broadcast(ctx, values, out)


_X, _Y = T((2, 6, 4)), T((2, 6, 4))
_TWO = (example(_X, _Y), example(_X, T((6, 1), "parameter")))
_BOTH = (example(T((2, 6, 4), "bool"), T((2, 6, 4), "bool")),)


def _meet(names: str, uses: tuple[Example, ...] = _TWO, kernel: str = "elementwise", **facts: Any) -> None:
    register(Spec(names=tuple(names.split()), label=pointwise, kernel=kernel, examples=uses, **facts))


_meet("add mul", layout="follow", aliases={"multiply": "mul"})
_meet(
    "sub rsub div floor_divide remainder fmod maximum minimum fmax fmin atan2 copysign hypot ldexp",
    aliases={"subtract": "sub", "divide": "div", "true_divide": "div", "arctan2": "atan2"},
)
_meet(
    "eq ne lt le gt ge logaddexp logaddexp2",
    aliases={
        "greater": "gt",
        "greater_equal": "ge",
        "less": "lt",
        "less_equal": "le",
        "not_equal": "ne",
    },
)
_meet(
    "pow float_power",
    (example(T((2, 6, 4), "unit"), _Y), example(T((2, 6, 4), "unit"), T((6, 1), "parameter"))),
)
_meet("heaviside")
_meet("xlogy", (example(_X, T((2, 6, 4), "unit")),), aliases={"special_xlogy": "xlogy"})
_meet("logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__", _BOTH)
_meet("where", (example(T((2, 6, 4), "bool"), _X, T((6, 1), "parameter")),))
_meet("masked_fill", (example(_X, T((2, 6, 4), "bool"), 0.5), example(_X, T((4,), "bool constant"), 0.5)))
_meet("lerp", (example(_X, _Y, 0.3),))
_meet("addcmul addcdiv", (example(_X, _Y, T((2, 6, 4), "unit")),))
_meet("fill", (example(_X, 0.5),))
_meet("copy", (example(_X, _Y),), kernel="layout")
_meet(
    "clamp",
    (example(_X, -0.5, 0.5), example(_X, T((6, 1), "parameter"))),
    fuses="activation",
    aliases={"clip": "clamp"},
)
_meet("clamp_min clamp_max", (example(_X, 0.1),), fuses="activation")
