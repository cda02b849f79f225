"""Norms over channels: their statistics run over what is kept, their parameters follow the index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dtp_edge.ops.moments import affine, weighted_moments, weights_of
from dtp_edge.ops.site import Site, remaining_groups
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value


def layer_norm(ctx: Context, a: Arguments, out: Value) -> None:
    """Mean and variance over the trailing dimensions, then a parameter an index."""
    x = ctx.value(a["input"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    first = x.rank - len(a["normalized_shape"])
    for dim in range(first, x.rank):
        ctx.statistics(x, dim)
        for name in ("weight", "bias"):
            if a.get(name) is not None:
                ctx.bind(ctx.value(a[name]), dim - first, out.labels[dim])


def group_norm(ctx: Context, a: Arguments, out: Value) -> None:
    """As a grouped convolution: the same offsets stay in every group; statistics over them."""
    x, groups = ctx.value(a["input"]), ctx.number(a["num_groups"])
    for dim in range(2, x.rank):
        ctx.freeze(ctx.read(x, dim), f"{ctx.op} takes it as a spatial dimension")
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    rows = out.labels[1]
    if rows is not None and not groups == len(rows) > 1:  # with one channel a group, a group goes with it
        ctx.equate(rows, np.tile(rows[: len(rows) // groups], (groups, 1)))
        ctx.statistics(x, 1)
    for name in ("weight", "bias"):
        if a.get(name) is not None:
            ctx.bind(ctx.value(a[name]), 0, out.labels[1])


def normalized_shape(site: Site) -> None:
    count = len(site.arg("normalized_shape"))
    site.set_arg("normalized_shape", site.kept.shape(site.input())[-count:])


def num_groups(site: Site) -> None:
    site.set_arg("num_groups", remaining_groups(site, site.input(), 1, site.arg("num_groups")))


def masked_layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, cudnn_enable: bool = True, *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    dims = list(range(x.dim() - len(normalized_shape), x.dim()))
    mean, deviation, total = weighted_moments(x, weights_of(x, factors, factor_dims), dims)
    return affine((x - mean) * torch.rsqrt(deviation / total + eps), weight, bias)


def masked_rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None,
    *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    dims = list(range(x.dim() - len(normalized_shape), x.dim()))
    weights = weights_of(x, factors, factor_dims).expand(x.shape)
    square = (x * x * weights).sum(dims, keepdim=True) / weights.sum(dims, keepdim=True)
    return affine(x * torch.rsqrt(square + (torch.finfo(x.dtype).eps if eps is None else eps)), weight, None)


def masked_group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, cudnn_enabled: bool = True, *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    shape = (x.shape[0], num_groups, x.shape[1] // num_groups, -1)
    weights = weights_of(x, factors, factor_dims).expand(x.shape).reshape(shape)
    groups = x.reshape(shape)
    mean, deviation, total = weighted_moments(groups, weights, (2, 3))
    normal = ((groups - mean) * torch.rsqrt(deviation / total + eps)).reshape(x.shape)
    per_channel = [None if p is None else p.reshape(-1, *[1] * (x.dim() - 2)) for p in (weight, bias)]
    return affine(normal, *per_channel)


_X, _P = T((2, 5, 6)), T((6,), "parameter")
register(
    Spec(
        names=("layer_norm",),
        label=layer_norm,
        size=normalized_shape,
        kernel="norm",
        masked=masked_layer_norm,
        examples=(
            example(_X, [6], _P, _P, 1e-5),
            example(_X, [5, 6], T((5, 6), "parameter"), T((5, 6), "parameter"), 1e-5),
        ),
    )
)
register(
    Spec(
        names=("rms_norm",),
        label=layer_norm,
        size=normalized_shape,
        kernel="norm",
        masked=masked_rms_norm,
        examples=(example(_X, [6], _P, 1e-5),),
    )
)
register(
    Spec(
        names=("group_norm",),
        label=group_norm,
        size=num_groups,
        kernel="norm",
        masked=masked_group_norm,
        examples=(
            example(T((2, 6, 4, 4)), 2, _P, _P, 1e-5),
            example(T((2, 6, 4, 4)), 6, _P, _P, 1e-5),
        ),
    )
)
