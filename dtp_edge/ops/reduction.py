"""The label rule of reductions: over labelled dimensions they run over what is kept, or all must stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from dtp_edge.ops.refusal import Code, NotCovered
from dtp_edge.ops.values import Arguments, Context, values_of

STATISTIC = "statistic"  # over kept indices only, by the operator's masked form
SUM = "sum"  # of something that is 0 where the input is: a mask on the input does it
WHOLE = "whole"  # no mask does it


def reduction(over_channels: str) -> Callable[[Context, Arguments, Any], None]:
    def label(ctx: Context, a: Arguments, out: Any) -> None:
        x = ctx.value(a["self"])
        dims = a.get("dim", None)
        if isinstance(dims, int):
            dims = [dims]
        reduced = {ctx.dim(d, x.rank) for d in dims} if dims else set(range(x.rank))
        keepdim = bool(a.get("keepdim", False))
        how = _how(ctx, a, over_channels)
        for dim in sorted(reduced):
            rows = ctx.read(x, dim)
            if how == STATISTIC:
                ctx.statistics(x, dim)
            elif how == SUM:
                ctx.contract(x, dim, 0)
            else:
                ctx.freeze(rows, f"{ctx.op} over the channels", Code.OVER_CHANNELS)
        kept = [d for d in range(x.rank) if keepdim or d not in reduced]
        labels = [None if d in reduced else ctx.read(x, d) for d in kept]
        for value in values_of(out):
            if value.rank != len(labels):
                raise NotCovered("this form of a reduction")
            value.labels[:] = labels

    return label


def _how(ctx: Context, a: Arguments, over_channels: str) -> str:
    order = a.get("ord", a.get("p", 2))
    if over_channels == SUM and not (order is None or (isinstance(order, (int, float)) and order > 0)):
        return WHOLE  # of negative order: what is masked to 0 would decide
    of_all = "unbiased" in a and a.get("dim") is None  # var(x, unbiased): its masked form takes dimensions
    if over_channels == STATISTIC and (of_all or _place_is_read(ctx.node)):
        return WHOLE
    return over_channels


def _place_is_read(node: fx.Node) -> bool:
    """Return whether anyone reads where the extreme lies, which counts dropped indices too."""
    has_place = node.op == "call_function" and str(node.target) in _WITH_PLACE
    return has_place and any(len(user.args) > 1 and user.args[1] == 1 for user in node.users)


_WITH_PLACE = ("aten.max.dim", "aten.min.dim")
