"""Statistics over kept indices only: what the compact network computes.

With weights w along the masked dimension, mean = Σ w x / Σ w and variance = Σ w (x - mean)² / Σ w, so
that hard masks give the statistics of the kept channels exactly and soft masks have a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def weights_of(x: Tensor, factors: Sequence[Tensor], dims: Sequence[int]) -> Tensor:
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


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def reduced_dims(x: Tensor, dim: Any) -> tuple[int, ...]:
    if dim is None or dim == []:
        return tuple(range(x.dim()))
    return tuple(d % x.dim() for d in (dim if isinstance(dim, (list, tuple)) else [dim]))
