"""Tensors made of nothing: constant fillings take any label, anything else takes none."""

from __future__ import annotations

from dtp_edge.ops.site import sizes_of_output
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import UNSET, Arguments, Context, Value


def filled(ctx: Context, a: Arguments, out: Value) -> None:
    """Every index holds the same number, so any of them can go; the batch dimension stays."""
    for dim in range(out.rank):
        out.labels[dim] = None if out.fixed[dim] or out.shape[dim] == 1 else UNSET


def numbered(ctx: Context, a: Arguments, out: Value) -> None:
    """What an index holds depends on its number: nothing can go."""
    out.labels[:] = [None] * out.rank


_X = T((2, 6, 4))
for _names, _args in (
    ("zeros ones empty", ([2, 6, 4],)),
    ("full", ([2, 6, 4], 0.5)),
    ("new_zeros new_ones new_empty", (_X, [2, 6, 4])),
    ("new_full", (_X, [2, 6, 4], 0.5)),
):
    register(
        Spec(
            names=tuple(_names.split()),
            label=filled,
            size=sizes_of_output("size"),
            kernel="elementwise",
            examples=(example(*_args),),
        )
    )
register(Spec(names=("scalar_tensor",), label=filled, kernel="elementwise", examples=(example(0.5),)))
for _names, _args in (
    ("arange", (6,)),
    ("linspace", (0.0, 1.0, 6)),
    ("eye", (6,)),
    ("tril_indices triu_indices", (6, 6)),
):
    register(
        Spec(names=tuple(_names.split()), label=numbered, kernel="elementwise", examples=(example(*_args),))
    )
register(
    Spec(
        names=("rand", "randn"),
        label=numbered,
        size=sizes_of_output("size"),
        kernel="elementwise",
        examples=(example([2, 6, 4]),),
    )
)
