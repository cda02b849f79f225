"""Fake quantisation: every number is rounded on its own, by the scale of its channel or of all."""

from __future__ import annotations

from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.unary import unary
from dtp_edge.ops.values import Arguments, Context, Value


def per_channel(ctx: Context, a: Arguments, out: Value) -> None:
    """Scale and zero point follow the channel."""
    x = ctx.value(a["self"])
    axis = ctx.dim(a["axis"], x.rank)
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    for name in ("scale", "zero_point"):
        ctx.bind(ctx.value(a[name]), 0, out.labels[axis])


_X = T((2, 6, 4))
register(
    Spec(
        names=("fake_quantize_per_channel_affine",),
        label=per_channel,
        kernel="elementwise",
        examples=(
            example(_X, T((6,), "float32 positive constant"), T((6,), "int32 constant", 3), 1, -127, 127),
            example(
                T((6, 4), "float32 parameter"),
                T((6,), "float32 positive constant"),
                T((6,), "int32 constant", 3),
                0,
                -127,
                127,
            ),
        ),
    )
)
register(
    Spec(
        names=("fake_quantize_per_tensor_affine",),
        label=unary,
        kernel="elementwise",
        examples=(example(_X, 0.1, 0, -127, 127),),
    )
)
