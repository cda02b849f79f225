"""Products with a matrix: contracted dimensions are equal, the others pass through."""

from __future__ import annotations

from typing import Any

from dtp_edge.ops.broadcast import broadcast, leading
from dtp_edge.ops.contract import attention_roles, multiply
from dtp_edge.ops.refusal import NotCovered
from dtp_edge.ops.spec import Spec, T, Work, example, register
from dtp_edge.ops.values import Arguments, Context, Value


def linear(ctx: Context, a: Arguments, out: Value) -> None:
    """A weight may be a vector: then the output has no channels."""
    x, weight = ctx.value(a["input"]), ctx.value(a["weight"])
    if x.source is None and x.labels[-1] is None:
        ctx.bind_weight(a["weight"], weight.rank - 1, None)
    else:
        multiply(ctx, x, x.rank - 1, weight, weight.rank - 1)
    labels = [ctx.read(x, d) for d in range(x.rank - 1)]
    if weight.rank == 2:
        labels.append(ctx.read(weight, 0))
        if a["bias"] is not None:
            ctx.bind(ctx.value(a["bias"]), 0, labels[-1])
    out.labels[:] = labels


def matmul(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    y = ctx.value(a["other"] if "other" in a else a["mat2"])
    if not x.rank or not y.rank:
        raise NotCovered("a product of scalars")
    y_dim = max(0, y.rank - 2)
    multiply(ctx, x, x.rank - 1, y, y_dim)
    if x.source is None and y.source is None and min(x.rank, y.rank) >= 3:
        attention_roles(ctx, x, y)
    batch = [leading(v, 2) for v in (x, y)]
    rest = Value(out.shape[: max(b.rank for b in batch)], [])
    out.labels[: rest.rank] = broadcast(ctx, batch, rest)
    for value, part in zip((x, y), batch, strict=True):
        value.labels[: part.rank] = part.labels
    position = rest.rank
    if x.rank > 1:
        out.labels[position] = ctx.read(x, x.rank - 2)
        position += 1
    if y.rank > 1:
        out.labels[position] = ctx.read(y, y.rank - 1)


def addmm(ctx: Context, a: Arguments, out: Value) -> None:
    batched = ctx.op == "baddbmm"
    x, y = (ctx.value(a[name]) for name in (("batch1", "batch2") if batched else ("mat1", "mat2")))
    multiply(ctx, x, x.rank - 1, y, y.rank - 2, first=1)
    out.labels[-2:] = [ctx.read(x, x.rank - 2), ctx.read(y, y.rank - 1)]
    if batched:
        attention_roles(ctx, x, y)
        ctx.equate(ctx.read(x, 0), ctx.read(y, 0))
        out.labels[0] = x.labels[0]
    broadcast(ctx, [ctx.value(a["self"]), out], out)


def macs(work: Work) -> list[list[tuple[Any, str]]]:
    """A product with a weight does prod(weight) * rows, one of activations prod(output) * contracted."""
    if work.family == "linear":
        if work.op != "addmm" and len(work.inputs[1]) == 1:  # a vector, not a matrix
            return [[(work.inputs[1][0], "in"), *((d, "") for d in work.output)]]
        if work.op == "linear":
            outward, inward = work.inputs[1]
        else:  # addmm, mm, matmul by a parameter: [in, out]
            inward, outward = [s for s in work.inputs if len(s) == 2][-1]
        return [[(outward, "out"), (inward, "in"), *((d, "") for d in work.output[:-1])]]
    operands = [s for s in work.inputs if len(s) >= 2][-2:]
    contracted = operands[0][-1] if operands else work.inputs[0][-1]
    return [
        [*((d, "") for d in work.output[:-1]), *((d, "out") for d in work.output[-1:]), (contracted, "in")]
    ]


register(
    Spec(
        names=("linear",),
        label=linear,
        kernel="linear",
        macs=macs,
        examples=(example(T((2, 5, 6)), T((4, 6), "parameter"), T((4,), "parameter")),),
    )
)
register(
    Spec(
        names=("matmul",),
        aliases={"linalg_matmul": "matmul"},
        label=matmul,
        kernel="matmul",
        macs=macs,
        examples=(
            example(T((2, 5, 6)), T((6, 4), "parameter")),
            example(T((2, 3, 5, 6)), T((2, 3, 6, 4))),
            example(T((2, 5, 6)), T((6,), "parameter")),
        ),
    )
)
register(
    Spec(
        names=("mm", "bmm"),
        label=matmul,
        kernel="matmul",
        macs=macs,
        examples=(example(T((2, 6)), T((6, 4), "parameter")), example(T((2, 5, 6)), T((2, 6, 4)))),
    )
)
register(
    Spec(
        names=("addmm", "baddbmm"),
        label=addmm,
        kernel="matmul",
        macs=macs,
        examples=(
            example(T((4,), "parameter"), T((2, 6)), T((6, 4), "parameter")),
            example(T((2, 5, 4)), T((2, 5, 6)), T((2, 6, 4))),
        ),
    )
)
register(
    Spec(
        names=("outer", "dot", "mv", "inner", "addmv", "addbmm", "addr"),
        aliases={"ger": "outer"},
        kernel="matmul",
        macs=macs,
    )
)
