"""Norms and softmax whose statistics run over kept channels only: what the compact network computes.

With weights w along the masked dimension, mean = Σ w x / Σ w and variance = Σ w (x - mean)² / Σ w, so
that hard masks give the statistics of the kept channels exactly and soft masks have a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _weights(x: Tensor, factors: Sequence[Tensor], dims: Sequence[int]) -> Tensor:
    """Return the product of the masks of several dimensions, broadcastable to x."""
    weight = x.new_ones([1] * x.dim())
    for factor, dim in zip(factors, dims, strict=True):
        shape = [1] * x.dim()
        shape[dim] = -1
        weight = weight * factor.reshape(shape).to(x.dtype)
    return weight


def weighted_moments(
    x: Tensor, weight: Tensor, dims: tuple[int, ...] | list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, sum of squared deviations and total weight over `dims`, dimensions kept."""
    total = weight.expand(x.shape).sum(dims, keepdim=True)
    mean = (x * weight).sum(dims, keepdim=True) / total
    deviation = ((x - mean) ** 2 * weight).sum(dims, keepdim=True)
    return mean, deviation, total


def layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, cudnn_enable: bool = True, *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    dims = list(range(x.dim() - len(normalized_shape), x.dim()))
    mean, deviation, total = weighted_moments(x, _weights(x, factors, factor_dims), dims)
    return _affine((x - mean) * torch.rsqrt(deviation / total + eps), weight, bias)


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None,
    *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    dims = list(range(x.dim() - len(normalized_shape), x.dim()))
    weights = _weights(x, factors, factor_dims).expand(x.shape)
    square = (x * x * weights).sum(dims, keepdim=True) / weights.sum(dims, keepdim=True)
    return _affine(x * torch.rsqrt(square + (torch.finfo(x.dtype).eps if eps is None else eps)), weight, None)


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, cudnn_enabled: bool = True, *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    shape = (x.shape[0], num_groups, x.shape[1] // num_groups, -1)
    weights = _weights(x, factors, factor_dims).expand(x.shape).reshape(shape)
    groups = x.reshape(shape)
    mean, deviation, total = weighted_moments(groups, weights, (2, 3))
    normal = ((groups - mean) * torch.rsqrt(deviation / total + eps)).reshape(x.shape)
    per_channel = [None if p is None else p.reshape(-1, *[1] * (x.dim() - 2)) for p in (weight, bias)]
    return _affine(normal, *per_channel)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def mean(
    x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None,
    factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    dims = _dims(x, dim)
    found = weighted_moments(x, _weights(x, factors, factor_dims), dims)[0]
    return found if keepdim else found.squeeze(dims)


def _dims(x: Tensor, dim: Any) -> tuple[int, ...]:
    if dim is None or dim == []:
        return tuple(range(x.dim()))
    return tuple(d % x.dim() for d in (dim if isinstance(dim, (list, tuple)) else [dim]))


def _variance(
    x: Tensor, dim: Any, correction: Any, keepdim: bool, factors: Sequence[Tensor], factor_dims: Sequence[int]
) -> tuple[Tensor, Tensor]:
    dims = _dims(x, dim)
    average, deviation, total = weighted_moments(x, _weights(x, factors, factor_dims), dims)
    variance = deviation / (total - float(correction))
    if keepdim:
        return variance, average
    return variance.squeeze(dims), average.squeeze(dims)


def var(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    return _variance(x, dim, _correction(unbiased, correction), keepdim, factors, factor_dims)[0]


def std(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    return _variance(x, dim, _correction(unbiased, correction), keepdim, factors, factor_dims)[0].sqrt()


def var_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _variance(x, dim, _correction(unbiased, correction), keepdim, factors, factor_dims)


def std_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
    correction: Any = None, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    variance, average = var_mean(
        x, dim, unbiased, keepdim, correction=correction, factors=factors, factor_dims=factor_dims
    )
    return variance.sqrt(), average


def _correction(unbiased: bool | None, correction: Any) -> float:
    if correction is not None:
        return float(correction)
    return 0.0 if unbiased is False else 1.0


def batch_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, running_mean: Tensor | None = None,
    running_var: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    cudnn_enabled: bool = True, *, factors: Sequence[Tensor], factor_dims: Sequence[int],
) -> Tensor:  # fmt: skip
    """Batch norm on the input's own statistics (weight standardisation uses it so)."""
    if running_mean is not None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    dims = [d for d in range(x.dim()) if d != 1]
    average, deviation, total = weighted_moments(x, _weights(x, factors, factor_dims), dims)
    shape = [1, -1] + [1] * (x.dim() - 2)
    per_channel = [None if p is None else p.reshape(shape) for p in (weight, bias)]
    return _affine((x - average) * torch.rsqrt(deviation / total + eps), *per_channel)


def softmax(
    x: Tensor, dim: int, dtype: Any = None, *, factors: Sequence[Tensor], factor_dims: Sequence[int]
) -> Tensor:
    """exp(x) / sum of w exp(x): the masked indices add nothing to the sum."""
    return log_softmax(x, dim, dtype, factors=factors, factor_dims=factor_dims).exp()


def log_softmax(
    x: Tensor, dim: int, dtype: Any = None, *, factors: Sequence[Tensor], factor_dims: Sequence[int]
) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    weight = _weights(x, factors, factor_dims).expand(x.shape)
    highest = x.detach().masked_fill(weight == 0, -torch.inf).amax(dim, keepdim=True)
    # a dropped index may be far above the others: what nobody reads must not overflow
    shifted = (x - highest).masked_fill(weight == 0, 0.0)
    return shifted - (shifted.exp() * weight).sum(dim, keepdim=True).log()


MASKED_STATISTICS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        *(layer_norm, rms_norm, group_norm, mean, var, std, var_mean, std_mean, batch_norm),
        *(softmax, log_softmax),
    )
}
