"""Scaled dot-product attention: q and k are contracted, positions stay, the scale too."""

from __future__ import annotations

import math
from typing import Any

from dtp_edge.ops.broadcast import broadcast, leading
from dtp_edge.ops.contract import multiply
from dtp_edge.ops.factor import unfold
from dtp_edge.ops.refusal import NotCovered
from dtp_edge.ops.site import Site
from dtp_edge.ops.sizes import dense_shape
from dtp_edge.ops.spec import Spec, T, Work, example, register
from dtp_edge.ops.values import Arguments, Context, Value, join


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
    batch = [leading(x, 2) for x in (q, k, v)]
    if a.get("enable_gqa"):
        _grouped_queries(ctx, q, k, v, out)
    else:
        out.labels[: out.rank - 2] = broadcast(ctx, batch, leading(out, 2))
        for x, part in zip((q, k, v), batch, strict=True):
            x.labels[: part.rank] = part.labels
    out.labels[-2] = ctx.read(q, q.rank - 2)
    out.labels[-1] = ctx.read(v, v.rank - 1)
    if a.get("attn_mask") is not None:
        scores = Value((*out.shape[:-1], k.shape[-2]), [*out.labels[:-1], None])
        broadcast(ctx, [ctx.value(a["attn_mask"]), scores], scores)


def _grouped_queries(ctx: Context, q: Value, k: Value, v: Value, out: Value) -> None:
    """Head h of the queries reads head h // n of keys and values: h is a pair of that head and one of n."""
    out.labels[: out.rank - 3] = broadcast(ctx, [leading(x, 3) for x in (q, k, v)], leading(out, 3))
    shared, queries = k.shape[-3], q.shape[-3]
    if v.shape[-3] != shared or queries % shared:
        raise NotCovered("grouped queries whose keys and values have different heads")
    ctx.equate(ctx.read(k, k.rank - 3), ctx.read(v, v.rank - 3))
    parts = unfold(ctx, ctx.read(q, q.rank - 3), [shared, queries // shared])
    ctx.equate(parts[0], k.labels[-3])
    out.labels[-3] = join([(parts[0], shared), (parts[1], queries // shared)])


def keep_scale(site: Site) -> None:
    """The scale stays 1/sqrt(d) of the original head: softmax(q·k / sqrt(d)) is what was trained."""
    query = site.input()
    if site.kept.node(query)[-1] is not None and site.arg("scale") is None:
        site.new.update_kwarg("scale", 1.0 / math.sqrt(dense_shape(query)[-1]))


def macs(work: Work) -> list[list[tuple[Any, str]]]:
    """One product for q k^T and one for its product with v."""
    tokens = work.inputs[1][-2]
    return [[*((d, "") for d in shape), (tokens, "")] for shape in (work.inputs[0], work.output)]


register(
    Spec(
        names=("scaled_dot_product_attention",),
        label=attention,
        size=keep_scale,
        kernel="matmul",
        macs=macs,
        examples=(
            example(T((2, 3, 5, 4)), T((2, 3, 7, 4)), T((2, 3, 7, 6))),
            example(T((2, 4, 5, 4)), T((2, 2, 7, 4)), T((2, 2, 7, 6)), enable_gqa=True),
        ),
    )
)
