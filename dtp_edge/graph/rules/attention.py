"""Attention and einsum: contracted dimensions are equal and masked once, the others pass through."""

from __future__ import annotations

from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.rules.elementwise import broadcast
from dtp_edge.graph.rules.linear import multiply
from dtp_edge.graph.rules.shape import unfold
from dtp_edge.graph.values import Context, Value, join


@rule("scaled_dot_product_attention")
def attention(ctx: Context, a: Arguments, out: Value) -> None:
    """softmax(q k^T scale) v: q and k share the inner dimension, v has its own; positions all stay."""
    q, k, v = (ctx.value(a[name]) for name in ("query", "key", "value"))
    multiply(ctx, q, q.rank - 1, k, k.rank - 1)
    for value in (k, v):
        ctx.freeze(ctx.read(value, value.rank - 2), "attention runs over these positions")
    for value in (q, k, v):
        for dim in range(value.rank - 2):
            ctx.role(value, dim, "heads")
    ctx.role(q, q.rank - 1, "query-key")
    ctx.role(v, v.rank - 1, "value")
    batch = [_leading(x, 2) for x in (q, k, v)]
    if a.get("enable_gqa"):
        _grouped_queries(ctx, q, k, v, out)
    else:
        out.labels[: out.rank - 2] = broadcast(ctx, batch, _leading(out, 2))
        for x, part in zip((q, k, v), batch, strict=True):
            x.labels[: part.rank] = part.labels
    out.labels[-2] = ctx.read(q, q.rank - 2)
    out.labels[-1] = ctx.read(v, v.rank - 1)
    if a.get("attn_mask") is not None:
        scores = Value((*out.shape[:-1], k.shape[-2]), [*out.labels[:-1], None])
        broadcast(ctx, [ctx.value(a["attn_mask"]), scores], scores)


def _grouped_queries(ctx: Context, q: Value, k: Value, v: Value, out: Value) -> None:
    """Head h of the queries reads head h // n of keys and values: h is a pair of that head and one of n."""
    out.labels[: out.rank - 3] = broadcast(ctx, [_leading(x, 3) for x in (q, k, v)], _leading(out, 3))
    shared, queries = k.shape[-3], q.shape[-3]
    assert v.shape[-3] == shared
    ctx.equate(ctx.read(k, k.rank - 3), ctx.read(v, v.rank - 3))
    parts = unfold(ctx, ctx.read(q, q.rank - 3), [shared, queries // shared])
    ctx.equate(parts[0], k.labels[-3])
    out.labels[-3] = join([(parts[0], shared), (parts[1], queries // shared)])


def _leading(value: Value, less: int) -> Value:
    n = max(0, value.rank - less)
    return Value(value.shape[:n], value.labels[:n], value.source)


@rule("einsum")
def einsum(ctx: Context, a: Arguments, out: Value) -> None:
    """Every letter is one dimension; a letter that the result lacks is summed and masked in one operand."""
    values = [ctx.value(n) for n in a["tensors"]]
    left, result = letters(a["equation"], [v.rank for v in values])
    where: dict[str, list[tuple[int, int]]] = {}
    for i, names in enumerate(left):
        assert len(set(names)) == len(names)
        for d, letter in enumerate(names):
            where.setdefault(letter, []).append((i, d))
    for letter, uses in where.items():
        size = max(values[i].shape[d] for i, d in uses)
        parts = [Value((values[i].shape[d],), [values[i].labels[d]], values[i].source) for i, d in uses]
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
