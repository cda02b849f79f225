"""How far apart two networks are that must compute the same, on inputs that neither has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

FLOAT32_LIMIT = 1e-4
FLOAT64_LIMIT = 1e-9
LEAST_SCALE = 0.05  # of a tensor's: rounding in what comes before reaches its small channels too
ABSOLUTE_ROUNDING = 1e-6  # of a sigmoid, softmax or tanh: eight times the precision of float32 at 1
ROUNDING_LIMIT = 1e-2  # as far as float32 may stray in a network that magnifies its rounding


def relative_error(reference: Sequence[Any], other: Sequence[Any], *, bounded: Sequence[bool] = ()) -> float:
    """Return the largest |a - b| over the largest |a|, the worst of all output tensors.

    Each tensor is judged by its own scale, and so is each of its channels (dimension 1 and the last of three
    or more) down to `LEAST_SCALE` of the tensor's: a box of 320 does not hide a score. A tensor that is
    `bounded` (of probabilities, say) may be off by `ABSOLUTE_ROUNDING` in any case.

    Infinite if counts or shapes differ, or if either side holds a value that is not finite.
    """
    if len(reference) != len(other) or not reference:
        return float("inf")
    worst = 0.0
    for number, (a, b) in enumerate(zip(reference, other, strict=True)):
        x, y = _array(a), _array(b)
        if x.shape != y.shape or not np.isfinite(x).all() or not np.isfinite(y).all():
            return float("inf")
        if x.size:
            gap = np.abs(x - y)
            if number < len(bounded) and bounded[number]:
                gap = np.maximum(gap - ABSOLUTE_ROUNDING, 0.0)
            worst = max(worst, _by_scale(gap, np.abs(x)))
    return worst


def _by_scale(gap: np.ndarray, size: np.ndarray) -> float:
    scale = float(size.max())
    if scale == 0:
        return 0.0 if gap.max() == 0 else float("inf")
    worst = float(gap.max()) / scale
    for axis in (1, size.ndim - 1) if size.ndim > 2 else ():
        others = tuple(d for d in range(size.ndim) if d != axis)
        own = np.maximum(size.max(axis=others), LEAST_SCALE * scale)
        worst = max(worst, float((gap.max(axis=others) / own).max()))
    return worst


def _array(x: Any) -> np.ndarray:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    return array.astype(np.float64)
