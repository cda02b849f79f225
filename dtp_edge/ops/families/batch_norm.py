"""Norms of each channel on its own: parameters and running statistics follow the channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dtp_edge.ops.moments import affine, weighted_moments, weights_of
from dtp_edge.ops.spec import Spec, T, example, register
from dtp_edge.ops.values import Arguments, Context, Value, values_of


def batch_norm(ctx: Context, a: Arguments, out: Any) -> None:
    x = ctx.value(a["input"])
    if a.get("training") and a.get("running_mean") is None:
        for dim in range(x.rank):
            if dim != 1:
                ctx.statistics(x, dim)
    _per_channel(ctx, a, x, out)


def instance_norm(ctx: Context, a: Arguments, out: Value) -> None:
    """Statistics over the spatial dimensions of each channel of each sample."""
    x = ctx.value(a["input"])
    for dim in range(2, x.rank):
        ctx.freeze(ctx.read(x, dim), f"{ctx.op} takes it as a spatial dimension")
    _per_channel(ctx, a, x, out)


def _per_channel(ctx: Context, a: Arguments, x: Value, out: Any) -> None:
    """Decomposed forms also return the statistics that they used, empty in evaluation."""
    labels = [ctx.read(x, d) for d in range(x.rank)]
    first, *statistics = values_of(out)
    first.labels[:] = labels
    for value in statistics:
        if value.shape == (x.shape[1],):
            value.labels[:] = [labels[1]]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if a.get(name) is not None:
            ctx.bind(ctx.value(a[name]), 0, labels[1])


def masked_batch_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, running_mean: Tensor | None = None,
    running_var: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    cudnn_enabled: bool = True, *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    """Batch norm on the input's own statistics (weight standardisation uses it so)."""
    if running_mean is not None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    dims = [d for d in range(x.dim()) if d != 1]
    average, deviation, total = weighted_moments(x, weights_of(x, factors, factor_dims), dims)
    shape = [1, -1] + [1] * (x.dim() - 2)
    per_channel = [None if p is None else p.reshape(shape) for p in (weight, bias)]
    return affine((x - average) * torch.rsqrt(deviation / total + eps), *per_channel)


_X, _P = T((2, 6, 4, 4)), T((6,), "parameter")
_RUNNING = (T((6,), "constant"), T((6,), "positive constant"))
register(
    Spec(
        names=("batch_norm",),
        label=batch_norm,
        kernel="norm",
        fuses="norm",
        layout="follow",
        training_flag="training",
        masked=masked_batch_norm,
        examples=(example(_X, _P, _P, *_RUNNING, False, 0.1, 1e-5, False),),
    )
)
register(
    Spec(
        names=("_native_batch_norm_legit_no_training",),
        label=batch_norm,
        kernel="norm",
        fuses="norm",
        layout="follow",
        examples=(example(_X, _P, _P, *_RUNNING, 0.1, 1e-5),),
    )
)
register(
    Spec(
        names=("native_batch_norm",),
        label=batch_norm,
        kernel="norm",
        fuses="norm",
        layout="follow",
        examples=(example(_X, _P, _P, *_RUNNING, False, 0.1, 1e-5),),
    )
)
register(
    Spec(
        names=("instance_norm",),
        label=instance_norm,
        kernel="norm",
        training_flag="use_input_stats",
        examples=(example(_X, _P, _P, None, None, True, 0.1, 1e-5, False),),
    )
)
