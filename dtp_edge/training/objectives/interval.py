"""Intervals of what was measured on a sample: of a share, and of a mean."""

from __future__ import annotations

import math

__all__ = ["of_mean", "wilson"]

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
