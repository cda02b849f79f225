"""Einsum: contracted letters are equal and masked once, the others pass through."""

from __future__ import annotations

from typing import Any

from dtp_edge.ops.broadcast import along, broadcast
from dtp_edge.ops.refusal import NotCovered
from dtp_edge.ops.spec import Spec, T, Work, example, register
from dtp_edge.ops.values import Arguments, Context, Value


def einsum(ctx: Context, a: Arguments, out: Value) -> None:
    """Every letter is one dimension; a letter that the result lacks is summed and masked in one operand."""
    values = [ctx.value(n) for n in a["tensors"]]
    left, result = letters(a["equation"], [v.rank for v in values])
    where: dict[str, list[tuple[int, int]]] = {}
    for i, names in enumerate(left):
        if len(set(names)) != len(names):
            raise NotCovered("einsum with a diagonal")
        for d, letter in enumerate(names):
            where.setdefault(letter, []).append((i, d))
    for letter, uses in where.items():
        size = max(values[i].shape[d] for i, d in uses)
        parts = [along(values[i], d) for i, d in uses]
        rows = broadcast(ctx, parts, Value((size,), [None]))[0]
        for (i, d), part in zip(uses, parts, strict=True):
            values[i].labels[d] = part.labels[0]
        if letter in result:
            out.labels[result.index(letter)] = rows
        elif rows is not None:
            i, d = next(((i, d) for i, d in uses if values[i].source is not None), uses[0])
            ctx.contract(values[i], d, i)


def letters(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Return the letters of every operand and of the result; an ellipsis becomes capital letters."""
    equation = equation.replace(" ", "")
    left, arrow, result = equation.partition("->")
    operands = left.split(",")
    if not arrow:
        plain = left.replace(",", "").replace(".", "")
        result = ("..." if "." in left else "") + "".join(
            sorted(c for c in set(plain) if plain.count(c) == 1)
        )
    spare = "ΑΒΓΔΕΖΗΘ"
    hidden = [rank - len(names) + 3 for names, rank in zip(operands, ranks, strict=True) if "." in names]
    wide = spare[: max(hidden, default=0)]
    named = [
        names.replace("...", wide[len(wide) - (rank - len(names) + 3) :]) if "." in names else names
        for names, rank in zip(operands, ranks, strict=True)
    ]
    return named, result.replace("...", wide)


def macs(work: Work) -> list[list[tuple[Any, str]]]:
    """Every letter once."""
    equation = next((v for v in work.attributes.values() if isinstance(v, str) and "->" in v), None)
    sizes: dict[str, Any] = {}
    if equation is not None:
        subscripts = equation.replace(" ", "").split("->")[0].split(",")
        for names, shape in zip(subscripts, work.inputs, strict=False):
            if "." not in names:
                sizes.update(zip(names, shape, strict=False))
    if sizes:
        return [[(dim, "") for dim in sizes.values()]]
    # no readable equation: every operand's dimensions count once, an upper bound
    return [[(dim, "") for dim in (*work.inputs[0], *work.inputs[-1][-1:])]]


register(
    Spec(
        names=("einsum",),
        label=einsum,
        kernel="matmul",
        macs=macs,
        examples=(
            example("bnk,bkm->bnm", [T((2, 5, 6)), T((2, 6, 4))]),
            example("bnk,mk->bmn", [T((2, 5, 6)), T((4, 6), "parameter")]),
        ),
    )
)
