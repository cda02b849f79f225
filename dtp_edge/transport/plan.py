r"""The dual of the whole network: soft masks of every group that meet all limits at once.

Atom i of group g has log-odds $z_i$ and mask $m_i = \sigma(z_i + b_g)$. One dual $b$ is shared by the
network and solved on its true cost; a group leaves it only where its own floor or cap binds:

$$b_g = \mathrm{clip}(b, \mathrm{low}_g, \mathrm{high}_g), \quad
\max_k \mathrm{Cost}_k(\mathrm{sizes}(m)) / \mathrm{Budget}_k = 1$$

with $\mathrm{low}_g$ (and $\mathrm{high}_g$) such that $\sum_g m$ is the floor (the cap, for layer-wise
keep ratios). Every cost is monotone in every width and every width in b, so a bracketed secant on
log(cost / budget) finds b. Where several limits bind, each has a dual of its own below this one (`duals`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dtp_edge.graph.network import Group
from dtp_edge.transport.meter import Meter
from dtp_edge.transport.smallest import first_atoms, least_counts, least_gates

__all__ = ["Plan", "Segments", "floors_of", "root", "sigmoid", "solve_plan"]

_EDGE = 40.0  # sigmoid(40) is 1 in float64


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function, without overflow."""
    return 1.0 / (1.0 + np.exp(-np.clip(x, -700.0, 700.0)))


def _logit(p: float | np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-17, 1.0 - 1e-16)
    return np.log(p) - np.log1p(-p)


class Segments:
    """Sums over groups of atoms (groups are consecutive, in order)."""

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.starts = np.array([g.start for g in groups], dtype=np.int64)
        self.counts = np.array([g.stop - g.start for g in groups], dtype=np.int64)
        self.of_atom = np.repeat(np.arange(len(groups)), self.counts)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """`[n_atoms]` to `[n_groups]`."""
        return np.add.reduceat(values, self.starts) if len(self.starts) else np.zeros(0)

    def dual(self, z: np.ndarray, target: np.ndarray, guess: np.ndarray | None = None) -> np.ndarray:
        """Return b_g with sum over g of sigmoid(z + b_g) = target_g, for all groups at once."""
        if not len(self.starts):
            return np.zeros(0)
        edge = _logit(target / self.counts)
        high = edge - np.minimum.reduceat(z, self.starts)
        low = edge - np.maximum.reduceat(z, self.starts)
        b = (low + high) / 2 if guess is None else np.clip(guess, low, high)
        for _ in range(80):
            m = sigmoid(z + b[self.of_atom])
            f, slope = self.sum(m) - target, self.sum(m * (1 - m))
            low, high = np.where(f <= 0, b, low), np.where(f >= 0, b, high)
            new = b - f / np.maximum(slope, 1e-300)
            new = np.where((new > low) & (new < high), new, (low + high) / 2)
            done = (np.abs(f) <= 1e-13 * target) | (high - low <= 1e-12 * np.abs(b))
            b = np.where(done, b, new)
            if done.all():
                break
        return np.where(target >= self.counts, high + 2 * _EDGE, b)

    def bounds(
        self,
        z: np.ndarray,
        floors: np.ndarray,
        caps: np.ndarray | None,
        low_guess: np.ndarray | None = None,
        high_guess: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and most dual of every group, `[n_groups]` each: its floor's and its cap's."""
        low = self.dual(z, floors.astype(np.float64), low_guess)
        high = np.full(len(low), np.inf) if caps is None else self.dual(z, caps, high_guess)
        return low, np.maximum(high, low)


def floors_of(groups: tuple[Group, ...], min_keep: float, meter: Meter | None = None) -> np.ndarray:
    """Return the least number of atoms of every group: `min_keep` of it, at least one.

    With a meter, the share is halved until the floors themselves fit the limits; where not even one atom
    a group fits (a layout that suits more channels), they are the cheapest network that was found. A gate's
    floor is 0, but for gates that must be open so that there is a network at all.
    """
    counts = np.array([g.stop - g.start for g in groups], dtype=np.int64)
    lowest = np.array([g.floor for g in groups], dtype=np.int64)
    if meter is not None and meter.network.branches:
        lowest = least_gates(meter, lowest)
    gates = np.array([g.kind == "branch" for g in groups], dtype=bool)
    share = min_keep
    while True:
        floors = np.where(gates, lowest, np.maximum(1, np.ceil(share * counts - 1e-9))).astype(np.int64)
        if meter is None or meter.fits(first_atoms(meter.network, floors)):
            return floors
        if (floors <= 1).all():
            return least_counts(meter)
        share /= 2


@dataclass
class Plan:
    """Masks that meet the limits, and what their gradient needs.

    `shift [n_atoms]` is b_g of each atom's group, `dual` the shared b, `cost [n_atoms]` the weight of an
    atom in the constraint that binds it: marginal cost (set 0, the network's limits) or 1 (set g + 1,
    the group's own floor or cap). `used` is max cost / limit.
    """

    mask: np.ndarray
    shift: np.ndarray
    dual: float
    low: np.ndarray
    high: np.ndarray
    cost: np.ndarray
    sets: np.ndarray
    used: float
    tightest: str


def solve_plan(
    z: np.ndarray,
    meter: Meter,
    segments: Segments,
    limits: Mapping[str, float],
    *,
    floors: np.ndarray,
    caps: np.ndarray | None = None,
    guess: float | None = None,
    low_guess: np.ndarray | None = None,
    high_guess: np.ndarray | None = None,
    tolerance: float = 1e-4,
    single_step: bool = False,
) -> Plan:
    """Solve the dual for log-odds `z [n_atoms]`; `single_step`: one Sinkhorn iteration from `guess`."""
    low, high = segments.bounds(z, floors, caps, low_guess, high_guess)

    def mask_at(b: float) -> np.ndarray:
        return sigmoid(z + np.clip(b, low, high)[segments.of_atom])

    top = float(_EDGE - z.min()) if len(z) else 0.0
    bottom = float(-_EDGE - z.max()) if len(z) else 0.0
    if not limits:
        b, mask, used, tightest = top, mask_at(top), 0.0, ""
    elif single_step:
        b = _sinkhorn_step(mask_at, meter, limits, 0.0 if guess is None else guess, (bottom, top))
        mask = mask_at(b)
        used, tightest = meter.used(mask, limits)
    else:
        b = root(mask_at, meter, limits, guess, (bottom, top), tolerance)
        mask = mask_at(b)
        used, tightest = meter.used(mask, limits)
    free = (b > low) & (b < high)
    sets = np.where(free, 0, np.arange(len(low)) + 1)[segments.of_atom]
    cost = np.ones(len(z))
    if tightest:
        marginal = meter.marginal(mask, tightest)
        cost = np.where(sets == 0, marginal, 1.0)
    shift = np.clip(b, low, high)[segments.of_atom]
    return Plan(mask, shift, b, low, high, cost, sets, used, tightest)


def _sinkhorn_step(mask_at, meter, limits, guess, ends) -> float:
    """b <- b + logit(budget / dense) - logit(cost / dense): Sinkhorn's update, on the true cost."""
    guess = float(np.clip(guess, *ends))
    used, metric = meter.used(mask_at(guess), limits)
    dense = meter.dense[metric]
    update = _logit(min(limits[metric] / dense, 1.0)) - _logit(min(used * limits[metric] / dense, 1.0))
    return float(np.clip(guess + np.clip(update, -8.0, 8.0), *ends))


def root(
    mask_at: Callable[[float], np.ndarray],
    meter: Meter,
    limits: Mapping[str, float],
    guess: float | None,
    ends: tuple[float, float],
    tolerance: float,
) -> float:
    """Find b with log(max cost / limit) = 0 from below: `used` lies in [1 - tolerance, 1].

    `mask_at(b)` rises with b; an end is returned where no b between `ends` gets there.
    """
    aim = -tolerance / 2  # a little below the limit, never above

    def height(b: float) -> float:
        return float(np.log(max(meter.used(mask_at(b), limits)[0], 1e-300))) - aim

    bottom, top = ends
    b = float(np.clip(0.0 if guess is None else guess, bottom, top))
    here = (b, height(b))
    reach, before = 0.05, here
    while abs(here[1]) > tolerance / 2:  # walk towards the root until it is passed
        down = here[1] > 0
        if here[0] == (bottom if down else top):
            return here[0]  # nothing more to drop, or to keep
        before = here
        b = float(np.clip(here[0] + (-reach if down else reach), bottom, top))
        here = (b, height(b))
        reach *= 3
        if (here[1] > 0) != down:
            break
    if abs(here[1]) <= tolerance / 2:
        return here[0]
    low, high = (here, before) if here[1] <= 0 else (before, here)
    return _illinois(height, low, high, tolerance)


def _illinois(height, low: tuple[float, float], high: tuple[float, float], tolerance: float) -> float:
    """Regula falsi with the Illinois weight, and a bisection whenever it stalls."""
    side = 0
    weight_low, weight_high = low[1], high[1]
    for count in range(80):
        width = high[0] - low[0]
        if width <= 1e-13 * max(1.0, abs(low[0])):
            break
        b = (low[0] * weight_high - high[0] * weight_low) / (weight_high - weight_low)
        if count % 6 == 5 or not low[0] < b < high[0]:
            b = (low[0] + high[0]) / 2
        h = height(b)
        if abs(h) <= tolerance / 2:
            return b
        if h > 0:
            high, weight_high = (b, h), h
            weight_low = weight_low / 2 if side == 1 else low[1]
            side = 1
        else:
            low, weight_low = (b, h), h
            weight_high = weight_high / 2 if side == -1 else high[1]
            side = -1
    return low[0]  # a jump of the cost: stay below it
