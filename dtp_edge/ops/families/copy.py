"""What leaves the numbers as they are when the network is used: dropout, casts, copies, other names."""

from __future__ import annotations

from typing import Any

from dtp_edge.ops.spec import Example, Spec, T, example, register
from dtp_edge.ops.unary import unary
from dtp_edge.ops.values import Arguments, Context, Value

_X = T((2, 6, 4))


def _same(names: str, *uses: Example, memory: str = "new", layout: str = "plain", **facts: Any) -> None:
    spec = {"label": unary, "kernel": "view", **facts}
    register(Spec(names=tuple(names.split()), memory=memory, layout=layout, examples=uses, **spec))


def getitem(ctx: Context, a: Arguments, out: Value) -> None:
    out.labels[:] = ctx.values[a["0"]][ctx.number(a["1"])].labels


_same(
    "dropout feature_dropout alpha_dropout feature_alpha_dropout",
    example(_X, 0.5, False),
    layout="transparent",
    memory="either",  # in evaluation the input itself comes out
    training_flag="train",
)
_same("native_dropout", example(_X, 0.5, False), training_flag="train")
_same("contiguous", example(_X), layout="transparent", memory="either", moves=True)
_same("clone", example(_X), layout="transparent", moves=True)
_same("alias detach", example(_X), layout="transparent", memory="view")
_same("to", layout="transparent", memory="either")
_same("_to_copy lift_fresh_copy", example(_X))
_same("lift_fresh resolve_conj resolve_neg", example(_X), memory="either")
_same("type_as", example(_X, T((1,), "constant")), memory="either")
_same("_assert_tensor_metadata", storable=False)
_same("getitem", label=getitem, memory="view")
