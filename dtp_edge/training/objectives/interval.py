"""Intervals of what was measured on a sample: of a share, and of a mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["bounds_of", "of_mean", "of_resampling", "wilson"]

_Z = 1.96  # 95 %


def wilson(share: float, count: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a share observed on `count` samples (Wilson 1927)."""
    if not count or not 0 <= share <= 1:
        return None
    middle = (share + _Z * _Z / (2 * count)) / (1 + _Z * _Z / count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count)) / (1 + _Z * _Z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def of_mean(mean: float, variance: float, count: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean of `count` values with this variance, by the normal law."""
    if count < 2 or not math.isfinite(variance):
        return None
    half = _Z * math.sqrt(max(variance, 0.0) / count)
    return mean - half, mean + half


def of_resampling(
    rows: Tensor, value: Callable[[Tensor], Tensor], draws: int = 400
) -> tuple[float, float] | None:
    """Return the 95 % interval of `value(sum of rows)` by drawing as many rows again and again (Efron 1979).

    `rows` is `[N, ...]`, what each sample adds to the counts; `value` reads sums `[draws, ...]` at once.
    """
    count = len(rows)
    if count < 8:
        return None
    generator = torch.Generator().manual_seed(0)
    flat = rows.double().flatten(1)
    often = torch.multinomial(torch.ones(count), count * draws, replacement=True, generator=generator)
    weights = torch.zeros(draws, count, dtype=torch.float64)
    weights.scatter_add_(1, often.view(draws, count), torch.ones(draws, count, dtype=torch.float64))
    found = value((weights @ flat).view(draws, *rows.shape[1:]))
    return bounds_of(found.numpy())


def bounds_of(drawn: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of values that were drawn anew."""
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return low, high
