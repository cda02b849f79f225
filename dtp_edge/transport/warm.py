"""A warm start: what the masks for a looser budget were, as the masks for a tighter one begin with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Warm"]


@dataclass(frozen=True)
class Warm:
    """`log_odds [n_atoms]` of the masks, and `limits`, `{metric: limit}`, from which the budget falls on."""

    log_odds: np.ndarray
    limits: Mapping[str, float]
