"""What a fit holds against a prediction that is off: the square while it is small, less beyond `scale`.

`Huber` counts large errors linearly: right where every network runs on kernels that the form describes, and
some are merely measured badly. `Cauchy` lets go of them (its pull falls as 1 / error): right where a network
may run on kernels that the form has no rate for, and is off by several times whatever the rates are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Loss(Protocol):
    """A loss of log errors, near 0 their square."""

    def of(self, error: np.ndarray) -> np.ndarray:
        """Return the loss of each error."""
        ...

    def weight(self, error: np.ndarray) -> np.ndarray:
        """Return d loss / d error over that of the square: what least squares multiply an error's row by."""
        ...


@dataclass(frozen=True)
class Huber:
    """Quadratic up to `scale`, linear beyond."""

    scale: float

    def of(self, error: np.ndarray) -> np.ndarray:
        size = np.abs(error)
        return np.where(size < self.scale, size**2, 2 * self.scale * size - self.scale**2)

    def weight(self, error: np.ndarray) -> np.ndarray:
        return 1.0 / np.maximum(1.0, np.abs(error) / self.scale)


@dataclass(frozen=True)
class Cauchy:
    """Logarithmic beyond `scale`: the likelihood of a Cauchy distribution."""

    scale: float

    def of(self, error: np.ndarray) -> np.ndarray:
        return self.scale**2 * np.log1p((error / self.scale) ** 2)

    def weight(self, error: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + (error / self.scale) ** 2)
