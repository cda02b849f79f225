"""What a run is about: a network, what it costs on the device, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import PrunableNetwork
from dtp_edge.metrics import UNITS, title
from dtp_edge.profiles import Profile
from dtp_edge.proof import Check
from dtp_edge.transport import Budget, Meter, caps_of, feasibility, harden, require_feasible
from dtp_edge.transport.budget import KEPT, LAYER_KEEP

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """`limits` are `{metric: limit}`, `layer_keep` `{group: share}`; both may be empty, not together."""

    network: PrunableNetwork
    cost: NetworkCost
    limits: dict[str, float]
    layer_keep: dict[str, float]

    @classmethod
    def of(cls, network: PrunableNetwork, profile: Profile, budget: Budget) -> Task:
        """Price the network on a device and read the budget in its terms; whether it can be had is not asked.

        **Raises:** `InputError` where the profile cannot cost a layer, or a share names no group.
        """
        cost = NetworkCost(network.layers, profile)
        limits = budget.limits(cost.evaluate(cost.dense_sizes()))
        return cls(network, cost, limits, budget.layer_shares([group.name for group in network.groups]))

    def require_feasible(self) -> Task:
        """Return this task, or raise `BudgetError` with a row for every metric."""
        require_feasible(self.network, self.cost, self.limits)
        return self

    def feasibility(self) -> list[dict[str, object]]:
        """Return the rows of `transport.feasibility`, and one for the keep ratios of groups."""
        rows = feasibility(self.network, self.cost, self.limits)
        if self.layer_keep:
            fewest = np.zeros(self.network.n_atoms)
            fewest[[group.start for group in self.network.groups]] = 1
            limit, dense, smallest = self.kept(fewest)[LAYER_KEEP]
            row: dict[str, object] = {"metric": LAYER_KEEP, "asked": limit, "smallest": smallest}
            row |= {"dense": dense, "unit": UNITS[LAYER_KEEP], "feasible": True, "blocked_by": ""}
            rows.append(row)
        return rows

    def kept(self, keep: np.ndarray) -> dict[str, tuple[float, float, float]]:
        """Return `{metric: (limit, of the dense network, of these atoms)}` for the keep ratios asked for."""
        found = {}
        if KEPT in self.limits:
            meter = Meter(self.network, self.cost, self.limits)
            found[KEPT] = meter.limits[KEPT], meter.dense[KEPT], float(meter.weight @ keep)
        if self.layer_keep:
            dense, now = (100 * self._fullest(mask)[0] for mask in (np.ones(len(keep)), keep))
            found[LAYER_KEEP] = 100.0, dense, now
        return found

    def caps(self) -> dict[str, int]:
        """Return the most atoms of every group that has a keep ratio of its own."""
        caps = caps_of(self.network, self.layer_keep)
        pairs = [] if caps is None else zip(self.network.groups, caps, strict=True)
        return {group.name: int(cap) for group, cap in pairs if group.name in self.layer_keep}

    def _fullest(self, keep: np.ndarray) -> tuple[float, str]:
        """Return the largest share of its own ratio that a group uses, and that group."""
        caps = self.caps()
        shares = [
            (float(keep[g.start : g.stop].sum()) / caps[g.name], g.name)
            for g in self.network.groups
            if g.name in caps
        ]
        return max(shares, default=(0.0, ""))

    def harden(self, scores: np.ndarray) -> np.ndarray:
        """Return which atoms stay for these scores, bool `[n_atoms]`, within every limit and keep ratio."""
        caps = caps_of(self.network, self.layer_keep)
        return harden(scores, self.network, self.cost, self.limits, caps=caps)

    def check(self, keep: np.ndarray) -> Check:
        """Check every limit and every layer's keep ratio on final integer widths."""
        meter = Meter(self.network, self.cost, self.limits)
        final = meter.costs(keep.astype(np.float64))
        used = {f"{title(m)} uses": final[m] / limit for m, limit in meter.limits.items()}
        if self.layer_keep:
            share, name = self._fullest(keep)
            used[f"{len(self.caps())} layers keep their ratio, {name or 'none'} uses"] = share
        worst = max(used.values(), default=0.0)
        detail = "; ".join(f"{text} {100 * share:.1f} % of its budget" for text, share in used.items())
        return Check("budget on the final widths", worst <= 1.0, float(worst), 1.0, detail)
