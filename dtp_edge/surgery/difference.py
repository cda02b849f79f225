"""How far apart two networks are that must compute the same, on inputs that neither has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dtp_edge.graph.inputs import leaves as leaves
from dtp_edge.graph.inputs import random_like as random_like

FLOAT32_LIMIT = 1e-4
FLOAT64_LIMIT = 1e-9
ROUNDING_LIMIT = 1e-2  # as far as float32 may stray in a network that magnifies its rounding


def relative_error(reference: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the largest |a - b| over the largest |a|, the worst of all output tensors.

    Infinite if counts or shapes differ, or if either side holds a value that is not finite.
    """
    if len(reference) != len(other) or not reference:
        return float("inf")
    worst = 0.0
    for a, b in zip(reference, other, strict=True):
        x, y = _array(a), _array(b)
        if x.shape != y.shape or not np.isfinite(x).all() or not np.isfinite(y).all():
            return float("inf")
        if x.size == 0:
            continue
        gap, scale = float(np.abs(x - y).max()), float(np.abs(x).max())
        worst = max(worst, gap / scale if scale > 0 else (0.0 if gap == 0 else float("inf")))
    return worst


def _array(x: Any) -> np.ndarray:
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    return array.astype(np.float64)
