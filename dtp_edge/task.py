"""What a run is about: a network, what it costs on the device, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtp_edge.cost import NetworkCost, Profile
from dtp_edge.export import Check
from dtp_edge.graph import PrunableNetwork
from dtp_edge.metrics import title
from dtp_edge.transport import Budget, Meter, caps_of, feasibility, harden, require_feasible

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
        """Return the rows of `transport.feasibility`."""
        return feasibility(self.network, self.cost, self.limits)

    def harden(self, scores: np.ndarray) -> np.ndarray:
        """Return which atoms stay for these scores, bool `[n_atoms]`, within every limit and keep ratio."""
        caps = caps_of(self.network, self.layer_keep)
        return harden(scores, self.network, self.cost, self.limits, caps=caps)

    def check(self, keep: np.ndarray) -> Check:
        """Check every limit and every layer's keep ratio on final integer widths."""
        meter = Meter(self.network, self.cost, self.limits)
        final = meter.costs(keep.astype(np.float64))
        used = {f"{title(m)} uses": final[m] / limit for m, limit in meter.limits.items()}
        caps = caps_of(self.network, self.layer_keep)
        if caps is not None:
            shares = [
                (int(keep[g.start : g.stop].sum()) / cap, g.name)
                for g, cap in zip(self.network.groups, caps, strict=True)
                if g.name in self.layer_keep
            ]
            share, name = max(shares, default=(0.0, ""))
            used[f"{len(shares)} layers keep their ratio, {name or 'none'} uses"] = share
        worst = max(used.values(), default=0.0)
        detail = "; ".join(f"{text} {100 * share:.1f} % of its budget" for text, share in used.items())
        return Check("budget on the final widths", worst <= 1.0, float(worst), 1.0, detail)
