"""The label rule of all that treats every number of one tensor alike."""

from __future__ import annotations

from typing import Any

from dtp_edge.ops.refusal import NotCovered
from dtp_edge.ops.values import Arguments, Context, Value, values_of


def unary(ctx: Context, a: Arguments, out: Any) -> None:
    x = next((v for v in map(ctx.values.get, ctx.node.all_input_nodes) if isinstance(v, Value)), None)
    if x is None:
        raise NotCovered("no tensor in")
    for value in values_of(out):
        value.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
