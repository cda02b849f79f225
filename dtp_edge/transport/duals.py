r"""A dual for every limit that binds, where one for all would let a limit speak for atoms that never pay it.

Peak RAM is paid by the channels that are live at the peak, flash by the weights of all layers. With one dual
$b$, a limit of RAM that is tight for a while holds every mask of the network down, and the gradient drops the
few channels that pay for it first, although flash may be what is scarce in the end. So an atom's shift is

$$b_i = -\sum_k \lambda_k r_{ki}, \quad
r_{ki} = \frac{\partial_i \mathrm{Cost}_k / B_k}{\sum_l \partial_i \mathrm{Cost}_l / B_l}$$

with $\lambda_k$ such that $\mathrm{Cost}_k = B_k$, or as low as keeps all of its payers. One limit has all
$r = 1$, which is the shared dual of `plan`. The duals are solved in turn (the Bregman projections of
Sinkhorn's iteration, onto one limit after the other); what they leave is met by the shared dual on top.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from dtp_edge.transport.meter import Meter
from dtp_edge.transport.plan import Plan, Segments, root, sigmoid

__all__ = ["LimitDuals", "marginal_costs", "shares_of", "solve_limits"]

_KEPT = 8.0  # log-odds of the lowest atom where a limit is slack
_DECAY = 0.8  # a step's memory of who paid for a peak
_PEAKS = ("peak_ram_bytes",)  # costs that are a largest of several: their payers change from step to step


class LimitDuals(nn.Module):
    """What is known of every limit from step to step; K is 1 where one dual is enough.

    - `costs` `[K, n_atoms]`: what an atom takes of each limit at the last plan
    - `shares` `[K, n_atoms]`: its share of each dual; all 1 if K is 1
    - `binds` `[K, 1]`: 1 for limits that bind, 0 for those that are slack
    - `levels` `[2, K]`: the duals, now and a step before
    """

    costs: Tensor
    shares: Tensor
    binds: Tensor
    levels: Tensor

    def __init__(self, meter: Meter, device: torch.device, *, shared: bool) -> None:
        super().__init__()
        self.meter = meter
        # no limit that the dense network meets can ever bind
        bound = tuple(m for m, limit in meter.limits.items() if meter.dense[m] > limit)
        self.metrics = () if shared or len(bound) < 2 else bound
        size, n = max(1, len(self.metrics)), meter.network.n_atoms
        self.register_buffer("costs", torch.zeros(size, n, dtype=torch.float64, device=device))
        self.register_buffer("shares", torch.ones_like(self.costs))
        self.register_buffer("binds", torch.ones(size, 1, dtype=torch.float64, device=device))
        self.register_buffer("levels", torch.full((2, size), torch.nan, dtype=torch.float64))

    def held(self) -> Tensor:
        """The costs whose sums a change of scores must not move, `[K, n_atoms]`."""
        return self.costs * self.binds

    def solve(
        self,
        z: np.ndarray,
        segments: Segments,
        limits: Mapping[str, float],
        floors: np.ndarray,
        caps: np.ndarray | None,
    ) -> np.ndarray:
        """Solve the dual of every limit; return the shift `[n_atoms]` that they make together."""
        if not self.metrics:
            return np.zeros_like(z)
        limits, levels = {m: limits[m] for m in self.metrics}, self.levels.cpu().numpy()
        costs = self.costs.cpu().numpy()
        guess = None
        if np.isnan(levels[0]).any():
            costs = marginal_costs(self.meter, np.ones(len(z)), limits)
        else:  # duals move almost evenly, because the scores add up at one rate
            guess = levels[0] + np.nan_to_num(levels[0] - levels[1])
        bounds = segments.bounds(z, floors, caps)
        duals, shares, binds = solve_limits(z, self.meter, segments, limits, bounds, costs, guess)
        self.levels.copy_(torch.from_numpy(np.stack([duals, levels[0]])))
        self.shares.copy_(torch.from_numpy(shares))
        self.binds.copy_(torch.from_numpy(binds[:, None]))
        return duals @ shares

    def note(self, plan: Plan, limits: Mapping[str, float]) -> None:
        """Keep what atoms cost at a plan, for its gradient and for the next step's shares."""
        if self.metrics:
            limits = {m: limits[m] for m in self.metrics}
            costs = marginal_costs(self.meter, plan.mask, limits, self.costs.cpu().numpy())
        else:
            costs = plan.cost[None]
        self.costs.copy_(torch.from_numpy(np.ascontiguousarray(costs)))


def marginal_costs(
    meter: Meter,
    mask: np.ndarray,
    limits: Mapping[str, float],
    before: np.ndarray | None = None,
    decay: float = _DECAY,
) -> np.ndarray:
    """What an atom takes of each limit, `[K, n_atoms]` >= 0; of a peak the most that it took lately."""
    rows = [meter.marginal(mask, m) / limit for m, limit in limits.items()]
    if before is not None:
        for k, metric in enumerate(limits):
            if metric in _PEAKS:
                rows[k] = np.maximum(rows[k], decay * before[k])
    return np.array(rows)


def shares_of(costs: np.ndarray) -> np.ndarray:
    """r_ki, `[K, n_atoms]`, of which every column sums to 1; atoms that cost nothing share alike."""
    some = costs + 1e-6 * (costs.max(initial=0.0) or 1.0)
    return some / some.sum(0)


def solve_limits(
    z: np.ndarray,
    meter: Meter,
    segments: Segments,
    limits: Mapping[str, float],
    bounds: tuple[np.ndarray, np.ndarray],
    costs: np.ndarray,
    guess: np.ndarray | None = None,
    *,
    tolerance: float = 1e-3,
    rounds: int = 6,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return $-\\lambda$ `[K]`, the shares `[K, n_atoms]`, and which limits bind `[K]`, for log-odds `z`.

    `bounds`: least and most shift of every group (its floor and cap); `costs`: `marginal_costs` of a mask
    nearby; `guess`: $-\\lambda$ of a problem nearby. Limits that cannot be met by those who pay them are left
    as they are for the shared dual.
    """
    low, high = (b[segments.of_atom] for b in bounds)
    top = float(_KEPT - z.min())
    ends = (-10.0 * (top + float(z.max()) + 40.0), top)
    shares = shares_of(costs)
    duals = np.full(len(limits), top) if guess is None else np.minimum(guess, top)

    def mask_at(values: np.ndarray) -> np.ndarray:
        return sigmoid(z + np.clip(values @ shares, low, high))

    for _ in range(rounds):
        for k, (metric, limit) in enumerate(limits.items()):

            def alone(b: float, k: int = k) -> np.ndarray:
                values = duals.copy()
                values[k] = b
                return mask_at(values)

            found = root(alone, meter, {metric: limit}, float(duals[k]), ends, tolerance)
            if found > ends[0]:
                duals[k] = found
        mask = mask_at(duals)
        if _met(meter, mask, limits, duals, top, tolerance):
            break
        if any(m in _PEAKS for m in limits):  # a peak has moved to others, who pay from now on
            costs = marginal_costs(meter, mask, limits, costs, decay=1.0)
            shares = shares_of(costs)
    return duals, shares, duals < top


def _met(
    meter: Meter,
    mask: np.ndarray,
    limits: Mapping[str, float],
    duals: np.ndarray,
    top: float,
    tolerance: float,
) -> bool:
    """Every limit is met from below, or is slack at its lowest price."""
    used = meter.costs(mask)
    heights = [np.log(max(used[m] / limit, 1e-300)) for m, limit in limits.items()]
    return all(
        h <= tolerance and (h >= -2 * tolerance or b >= top) for h, b in zip(heights, duals, strict=True)
    )
