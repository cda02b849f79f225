"""The width of every group, the device's staircase around it, and what the next step would cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import Group, PrunableNetwork
from dtp_edge.transport.budget import KEPT
from dtp_edge.transport.smallest import steps_of

MAX_STAIRCASE_GROUPS = 16  # the ones with most latency at stake
EXACT_ATOMS = 128  # a staircase of up to so many atoms is evaluated at every width
MAX_STAIRCASE_POINTS = 128
FREE = 0.001  # a step that adds less than this share of the latency costs nothing that can be measured


class OneWidth:
    """Costs of the pruned network when one group alone changes its width."""

    def __init__(
        self,
        network: PrunableNetwork,
        keep: np.ndarray,
        cost: NetworkCost,
        caps: Mapping[str, int] | None = None,
    ) -> None:
        self.network, self.cost, self.mask = network, cost, keep.astype(float)
        self.caps = caps or {}  # the most atoms of a group that has a keep ratio of its own
        self.steps = {
            group.name: min(int(step), group.stop - group.start)
            for group, step in zip(network.groups, steps_of(network, cost), strict=True)
        }
        self.weight = np.repeat(
            [float(g.channels_per_atom) for g in network.groups], [g.stop - g.start for g in network.groups]
        )
        closed = [network.branches[i].groups for i in network.depth.closed(keep)]
        gone = {index for groups in closed for index in groups}
        # what has channels and is there: no gates, nothing within a branch that went
        self.groups = [g for i, g in enumerate(network.groups) if g.kind != "branch" and i not in gone]
        self.now = self.costs(self.mask)

    def costs(self, mask: np.ndarray) -> dict[str, float]:
        return {**self.cost.evaluate(self.network.layers.sizes(mask)), KEPT: float(self.weight @ mask)}

    def atoms(self, group: Group) -> int:
        """Return how many atoms of a group stay."""
        return int(self.mask[group.start : group.stop].sum())

    def at(self, group: Group, atoms: int) -> dict[str, float]:
        """Return all costs with `atoms` in `group`: its kept ones first, then those that were removed."""
        mask = self.mask.copy()
        order = np.argsort(-mask[group.start : group.stop], kind="stable")
        mask[group.start + order] = np.arange(len(order)) < atoms
        return self.costs(mask)

    def next_step(self, group: Group) -> int | None:
        """Return the next width in atoms that is a multiple of the device's step; None at full width."""
        total, kept, step = group.stop - group.start, self.atoms(group), self.steps[group.name]
        return None if kept >= total else min((kept // step + 1) * step, total)

    def free_atoms(self, group: Group, limits: Mapping[str, float]) -> int:
        """Return how many more atoms cost no time on this device and break no budget."""
        kept, following = self.atoms(group), self.next_step(group)
        most = min(following or 0, self.caps.get(group.name, group.stop - group.start))
        for atoms in range(most, kept, -1):
            costs = self.at(group, atoms)
            cheap = costs["latency_ms"] <= (1 + FREE) * self.now["latency_ms"]
            if cheap and all(costs[m] <= limit for m, limit in limits.items() if m in costs):
                return atoms - kept
        return 0


def group_rows(widths: OneWidth) -> list[dict[str, Any]]:
    """Return the width of every group and, for the groups that matter most, its latency staircase."""
    groups, there = [g for g in widths.network.groups if g.kind != "branch"], {g.name for g in widths.groups}
    least = {g.name: widths.at(g, 1)["latency_ms"] for g in widths.groups}
    shown = {g.name for g in sorted(widths.groups, key=lambda g: least[g.name])[:MAX_STAIRCASE_GROUPS]}
    rows = []
    for group in groups:
        row: dict[str, Any] = {
            "name": group.name,
            "kind": group.kind,
            "kept": widths.atoms(group) * group.channels_per_atom,
            "total": group.total,
            "step": widths.steps[group.name] * group.channels_per_atom,
            "next_free_step": _next_step(group, widths) if group.name in there else None,
            "staircase": _staircase(group, widths) if group.name in shown else [],
            "layers": sorted({name.rsplit(".", 1)[0] for name, _ in group.members}),
        }
        rows.append(row)
    return rows


def _next_step(group: Group, widths: OneWidth) -> dict[str, Any] | None:
    following = widths.next_step(group)
    if following is None:
        return None
    extra = widths.at(group, following)["latency_ms"] - widths.now["latency_ms"]
    return {"width": following * group.channels_per_atom, "extra_latency_ms": max(extra, 0.0)}


def _staircase(group: Group, widths: OneWidth) -> list[dict[str, Any]]:
    return [
        {"width": int(n) * group.channels_per_atom, "latency_ms": widths.at(group, int(n))["latency_ms"]}
        for n in staircase_atoms(group.stop - group.start, widths.steps[group.name], widths.atoms(group))
    ]


def staircase_atoms(total: int, step: int, kept: int) -> np.ndarray:
    """Return the widths to evaluate: all of them, or both sides of the jumps where there are very many.

    An even thinning would show a staircase that is not there: it meets the steps at a changing phase.
    """
    if total <= EXACT_ATOMS:
        return np.arange(1, total + 1)
    jumps = np.arange(step, total, step)
    every = -(-2 * len(jumps) // MAX_STAIRCASE_POINTS)
    near = np.arange(max(1, kept - step), min(total, kept + step + 1) + 1) if step <= 16 else np.array([kept])
    ends = np.array([1, max(kept, 1), total])
    return np.unique(np.concatenate([jumps[::every], jumps[::every] + 1, near, ends]))
