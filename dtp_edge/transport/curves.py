r"""Widths from error curves: what an atom's keeping is worth is the rise of the error without it.

Group g loses $E_g(t)$ without the t atoms that its curve lets go first. The one dual of the transport needs a
worth for every atom, in one currency, that falls along the curve's order; the search then takes widths by
worth per price. So the curve is scaled to what was *measured* at the network's output at a few widths
(between them the scale is interpolated in the logarithm of the error), and its rises are made to grow by
pooling neighbours (the greatest convex minorant).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["rises_of", "worths"]

_TIE = 1e-6  # equal worths keep the curve's order


def rises_of(error: np.ndarray, measured: Mapping[int, float], trust: float = 1.0) -> np.ndarray:
    """Return the rise of the output's error with every further atom that goes, `[n]` >= 0, never falling.

    `error` `[n + 1]` is the curve; `measured` the output's error once so many atoms had gone. `trust` is how
    far the curve is scaled to it: 1 as it was measured, 0 not at all, between them by the geometric mean.
    """
    error = np.maximum.accumulate(np.asarray(error, dtype=np.float64))
    points = {t: value / error[t] for t, value in measured.items() if error[t] > 0 and value > 0}
    scaled = error
    if points:
        at = np.array(sorted(points))
        logs = np.log(np.maximum(error, error[error > 0].min()))
        scale = np.interp(logs, logs[at], np.log([points[t] for t in at]))
        scaled = np.maximum.accumulate(error * np.exp(trust * scale))
    return _convex(np.diff(scaled))


def worths(
    n_atoms: int, starts: Sequence[int], orders: Sequence[np.ndarray], rises: Sequence[np.ndarray]
) -> np.ndarray:
    """Return what keeping every atom is worth, `[n_atoms]` > 0, for `harden(values=...)`.

    `orders[g]` are group g's atoms as they go, `rises[g]` what each costs, `starts[g]` the group's first
    atom.
    """
    values = np.zeros(n_atoms)
    largest = max((float(r.max(initial=0.0)) for r in rises), default=0.0) or 1.0
    for start, order, rise in zip(starts, orders, rises, strict=True):
        tie = 1.0 + _TIE * np.arange(len(order))
        values[start + order] = (rise + 1e-9 * largest) * tie
    return values


def _convex(rises: np.ndarray) -> np.ndarray:
    """Pool adjacent violators: the nearest rises that never fall, with the same sum."""
    pools: list[list[float]] = []
    for rise in rises:
        pools.append([float(rise), 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (b, m), (a, n) = pools.pop(), pools.pop()
            pools.append([(a * n + b * m) / (n + m), n + m])
    return np.array([value for value, count in pools for _ in range(int(count))])
