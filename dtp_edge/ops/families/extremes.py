"""Largest, smallest, product, log-sum-exp: over the kept indices of a labelled dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dtp_edge.ops.broadcast import broadcast
from dtp_edge.ops.moments import reduced_dims, weights_of
from dtp_edge.ops.reduction import STATISTIC, reduction
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context


def extreme(ctx: Context, a: Arguments, out: Any) -> None:
    """The largest of one tensor along dimensions, or of two tensors index by index."""
    if "other" in a:
        out.labels[:] = broadcast(ctx, [ctx.value(a["self"]), ctx.value(a["other"])], out)
    else:
        reduction(STATISTIC)(ctx, a, out)


def _drawn(x: Tensor, dims: tuple[int, ...], weight: Tensor, smallest: bool) -> Tensor:
    """Draw what is masked to the other end, where it decides nothing: exactly there at 0, untouched at 1."""
    end = x.detach().amax(dims, keepdim=True) if smallest else x.detach().amin(dims, keepdim=True)
    return torch.lerp(end.expand(x.shape), x, weight.expand(x.shape))


def masked_amax(
    x: Tensor, dim: Any = None, keepdim: bool = False,
    *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    dims = reduced_dims(x, dim)
    return _drawn(x, dims, weights_of(x, factors, factor_dims), False).amax(dims, keepdim)


def masked_amin(
    x: Tensor, dim: Any = None, keepdim: bool = False,
    *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    dims = reduced_dims(x, dim)
    return _drawn(x, dims, weights_of(x, factors, factor_dims), True).amin(dims, keepdim)


def masked_max(
    x: Tensor, dim: int | None = None, keepdim: bool = False,
    *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Any:  # fmt: skip
    drawn = _drawn(x, reduced_dims(x, dim), weights_of(x, factors, factor_dims), False)
    return drawn.max() if dim is None else drawn.max(dim, keepdim)


def masked_min(
    x: Tensor, dim: int | None = None, keepdim: bool = False,
    *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Any:  # fmt: skip
    drawn = _drawn(x, reduced_dims(x, dim), weights_of(x, factors, factor_dims), True)
    return drawn.min() if dim is None else drawn.min(dim, keepdim)


def masked_prod(
    x: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None,
    factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    weight = weights_of(x, factors, factor_dims).expand(x.shape)
    drawn = torch.lerp(torch.ones_like(x), x, weight)
    return drawn.prod(dtype=dtype) if dim is None else drawn.prod(dim, keepdim, dtype=dtype)


def masked_logsumexp(
    x: Tensor, dim: Any, keepdim: bool = False, *, factors: Sequence[Tensor], factor_dims: Sequence[int]
) -> Tensor:
    dims = reduced_dims(x, dim)
    weight = weights_of(x, factors, factor_dims).expand(x.shape)
    highest = x.detach().masked_fill(weight == 0, -torch.inf).amax(dims, keepdim=True)
    shifted = (x - highest).masked_fill(weight == 0, 0.0)  # a dropped index must not overflow
    found = (shifted.exp() * weight).sum(dims, keepdim=True).log() + highest
    return found if keepdim else found.squeeze(dims)


_X = T((2, 5, 6))
_DIMS = (example(_X, [1]), example(_X, [2], True), example(_X, [1, 2], True))
_ONE = (example(_X, 1), example(_X, 2, True))
for _name, _masked, _uses in (
    ("amax", masked_amax, _DIMS),
    ("amin", masked_amin, _DIMS),
    ("max", masked_max, (example(_X), example(_X, T((5, 1))))),
    ("min", masked_min, (example(_X), *_ONE)),
    ("prod", masked_prod, _ONE),
    ("logsumexp", masked_logsumexp, _DIMS),
):
    register(
        Spec(
            names=(_name,),
            aliases={"special_logsumexp": "logsumexp"} if _name == "logsumexp" else {},
            label=extreme,
            kernel="pool",
            masked=_masked,
            examples=_uses,
        )
    )
