"""Softmax: the sum below runs over what is kept, as the statistics of a norm do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dtp_edge.ops.moments import weights_of
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value


def softmax(ctx: Context, a: Arguments, out: Value) -> None:
    x = ctx.value(a["self"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    ctx.statistics(x, ctx.dim(a["dim"], x.rank))


def masked_softmax(
    x: Tensor, dim: int, dtype: Any = None, *, factors: Sequence[Tensor], factor_dims: Sequence[int]
) -> Tensor:
    """exp(x) / sum of w exp(x): the masked indices add nothing to the sum."""
    return masked_log_softmax(x, dim, dtype, factors=factors, factor_dims=factor_dims).exp()


def masked_log_softmax(
    x: Tensor, dim: int, dtype: Any = None, *, factors: Sequence[Tensor], factor_dims: Sequence[int]
) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    weight = weights_of(x, factors, factor_dims).expand(x.shape)
    highest = x.detach().masked_fill(weight == 0, -torch.inf).amax(dim, keepdim=True)
    # a dropped index may be far above the others: what nobody reads must not overflow
    shifted = (x - highest).masked_fill(weight == 0, 0.0)
    return shifted - (shifted.exp() * weight).sum(dim, keepdim=True).log()


for _name, _masked in (("softmax", masked_softmax), ("log_softmax", masked_log_softmax)):
    register(
        Spec(
            names=(_name,),
            aliases={f"special_{_name}": _name},
            label=softmax,
            kernel="softmax",
            masked=_masked,
            examples=(example(T((2, 5, 6)), -1), example(T((2, 5, 6)), 1)),
        )
    )
