"""Sums of products of channel counts: the one arithmetic that every cost is made of.

MACs, bytes and parameters of a layer are products of dimensions, so each quantity ("target") is
`sum_t coefficient_t * prod_k slot[index_tk]`, where a slot is one channel count `scale * sizes[width]`,
rounded up to a device's step. Coefficients are >= 0 and slots are monotone, so every target is
monotone in every width by construction. Evaluating all targets of a network is one gather, one product
and one `bincount`.

Staircase: at integers a slot is the count rounded up to a multiple of its step, exactly; between two
integers it is linear. Its slope in a gradient is 1: the secant over a whole step.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dtp_edge.graph.layers import Dim

Factor = tuple[Dim, int]  # a dimension, and the step that it is rounded up to


def round_up(count: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return counts rounded up to multiples of step; linear between neighbouring integers."""
    low = np.floor(count)
    part = count - low
    below = np.ceil(low / step) * step
    return below + part * (np.ceil((low + 1.0) / step) * step - below)


class TermBuilder:
    """Collects terms; `build`, once, freezes them into arrays."""

    def __init__(self) -> None:
        self._slots: dict[tuple[int, float, int], int] = {}
        self._coefficients: list[float] = []
        self._targets: list[int] = []
        self._factors: list[list[int]] = []
        self._fixed: dict[int, float] = {}
        self.n_targets = 0

    def new_targets(self, count: int = 1) -> int:
        """Reserve `count` consecutive targets; return the first."""
        first = self.n_targets
        self.n_targets += count
        return first

    def add(self, target: int, coefficient: float, factors: Iterable[Factor]) -> None:
        """Add `coefficient * product(factors)` to a target."""
        slots: list[int] = []
        value = float(coefficient)
        for dim, step in factors:
            if dim.width is None:
                value *= -(-dim.size // step) * step
            else:
                key = (dim.width, float(dim.scale), step)
                slots.append(self._slots.setdefault(key, len(self._slots)))
        if not slots:
            self.add_fixed(target, value)
        elif value:
            self._coefficients.append(value)
            self._targets.append(target)
            self._factors.append(slots)

    def add_fixed(self, target: int, value: float) -> None:
        self._fixed[target] = self._fixed.get(target, 0.0) + value

    def build(self) -> Terms:
        n_slots = len(self._slots)
        depth = max((len(f) for f in self._factors), default=1)
        rows = [f + [n_slots] * (depth - len(f)) for f in self._factors]
        fixed = np.zeros(self.n_targets)
        for target, value in self._fixed.items():
            fixed[target] += value
        keys = np.array(list(self._slots), dtype=np.float64).reshape(-1, 3)
        terms = Terms(
            width=keys[:, 0].astype(np.intp),
            scale=keys[:, 1],
            step=keys[:, 2],
            coefficient=np.array(self._coefficients),
            target=np.array(self._targets, dtype=np.intp),
            factor=np.array(rows, dtype=np.intp).reshape(-1, depth).T.copy(),
            fixed=fixed,
        )
        for collected in (self._slots, self._coefficients, self._targets, self._factors, self._fixed):
            collected.clear()  # many costs are kept, each with what knows its builder
        return terms


class Terms:
    """Frozen terms. `slots` then `values` evaluate; `vjp` gives the gradient of a weighted sum."""

    def __init__(
        self,
        width: np.ndarray,
        scale: np.ndarray,
        step: np.ndarray,
        coefficient: np.ndarray,
        target: np.ndarray,
        factor: np.ndarray,
        fixed: np.ndarray,
    ) -> None:
        self.width, self.scale, self.step = width, scale, step
        self.coefficient, self.target, self.factor, self.fixed = coefficient, target, factor, fixed

    def slots(self, sizes: np.ndarray) -> np.ndarray:
        """Return every slot's channel count (and a final 1), float64 `[n_slots + 1]`."""
        counts = np.maximum(self.scale * sizes[self.width], 0.0)
        return np.append(round_up(counts, self.step), 1.0)

    def values(self, slots: np.ndarray) -> np.ndarray:
        """Return all targets, float64 `[n_targets]`."""
        product = self.coefficient.copy()
        for row in self.factor:
            product *= slots[row]
        return self.fixed + np.bincount(self.target, product, minlength=len(self.fixed))

    def vjp(self, slots: np.ndarray, upstream: np.ndarray, n_widths: int) -> np.ndarray:
        """Return d(upstream . values)/d sizes, `[n_widths]`, with slope 1 on every staircase."""
        grad = np.zeros(len(slots))
        weight = upstream[self.target] * self.coefficient
        gathered = slots[self.factor]
        for k in range(len(gathered)):
            others = weight.copy()
            for j, row in enumerate(gathered):
                if j != k:
                    others *= row
            grad += np.bincount(self.factor[k], others, minlength=len(slots))
        return np.bincount(self.width, grad[:-1] * self.scale, minlength=n_widths).astype(np.float64)


def numel(shape: Iterable[Dim]) -> list[Factor]:
    """Return the factors of a tensor's number of elements."""
    return [(dim, 1) for dim in shape]
