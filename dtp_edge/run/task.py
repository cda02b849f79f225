"""What a run is about: a network, what it costs on the device, and what it may cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from dtp_edge.archive import require_storable
from dtp_edge.cost import NetworkCost
from dtp_edge.cost.planners import Planner
from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.engine import has_rule
from dtp_edge.graph.part import Whole
from dtp_edge.metrics import UNITS, title
from dtp_edge.profiles import Profile
from dtp_edge.proof import Check
from dtp_edge.run.judge import FittedJudge
from dtp_edge.run.options import NOBODY, Listener, Options
from dtp_edge.run.traced import Traced, traced_for
from dtp_edge.surgery import compact
from dtp_edge.transport import (
    Budget,
    MaskLearner,
    Meter,
    caps_of,
    feasibility,
    prices,
    require_feasible,
)
from dtp_edge.transport.batch_loss import LossFunction
from dtp_edge.transport.branch_losses import greedy_removals
from dtp_edge.transport.budget import KEPT, LAYER_KEEP
from dtp_edge.transport.harden import choices
from dtp_edge.transport.known_losses import KnownLosses
from dtp_edge.transport.scores import importance, scores_of

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """`limits` are `{metric: limit}`, `layer_keep` `{group: share}`; both may be empty, not together.

    `checks` are the proofs that were made while the network was traced; they head those of the cut.
    `dense_sha256` names the weights that are pruned, `precision` what they were in where that is one other
    than float32. `whole` is the network around it, where it is a part (`Options.part`).
    """

    network: PrunableNetwork
    cost: NetworkCost
    limits: dict[str, float]
    layer_keep: dict[str, float]
    checks: tuple[Check, ...] = ()
    dense_sha256: str = ""
    precision: torch.dtype | None = None
    whole: Whole | None = None

    @classmethod
    def of(
        cls,
        network: PrunableNetwork,
        profile: Profile,
        budget: Budget,
        *,
        checks: tuple[Check, ...] = (),
        dense_sha256: str = "",
        planner: Planner | None = None,
    ) -> Task:
        """Price the network on a device and read the budget in its terms; whether it can be had is not asked.

        RAM is what the `planner` of another runtime sets aside, if one is given.

        **Raises:** `InputError` where the profile cannot cost a layer, or a share names no group.
        """
        cost = NetworkCost(network.layers, profile, planner=planner)
        return cls(network, cost, {}, {}, checks, dense_sha256).within(budget)

    @classmethod
    def of_traced(
        cls, found: Traced, profile: Profile, budget: Budget, planner: Planner | None = None
    ) -> Task:
        """Return what `of` does, of a network that was traced for it or for others."""
        checks, sha256 = found.checks, found.sha256
        task = cls.of(found.network, profile, budget, checks=checks, dense_sha256=sha256, planner=planner)
        return replace(task, precision=found.precision, whole=found.whole)

    def within(self, budget: Budget) -> Task:
        """Return this task for another budget.

        **Raises:** `InputError` where a share names no group, or the profile does not know the board's power.
        """
        profile = self.cost.profile
        if budget.energy is not None and profile.power is None:
            raise InputError(
                f"profile {profile.name} does not know what the board draws, so energy cannot be predicted",
                where="budget energy",
                hint="Name a latency, which energy follows, or a profile with a power: `dtp-edge devices`.",
            )
        limits = budget.limits(self.cost.evaluate(self.cost.dense_sizes()))
        shares = budget.layer_shares([group.name for group in self.network.groups])
        return replace(self, limits=limits, layer_keep=shares)

    @classmethod
    def trace(
        cls,
        model: nn.Module,
        example_inputs: tuple[Any, ...],
        options: Options,
        listener: Listener = NOBODY,
    ) -> Task:
        """Trace a copy of the user's network and price it; a budget that cannot be had is refused.

        **Raises:** `UnsupportedError` (cannot be traced), `InputError` (weights that are not finite too),
        `BudgetError` with a row for every metric, `CheckError` (what was traced is not the network).
        """
        profile = options.profile()
        listener.begin("tracing the network")
        found = traced_for(
            model, example_inputs, options.exclude, depth=options.drops_branches, part=options.part
        )
        task = cls.of_traced(found, profile, options.budget, options.planner())
        require_feasible(task.network, task.cost, task.limits)
        return task

    def learner(self, steps: int, **options: Any) -> MaskLearner:
        """Return the masks that learn to meet the limits in `steps` steps, around the network as it is now.

        They start from `scores` `[n_atoms]`, else from those of training `batches` (Taylor, by price), else
        from those of the weights. With batches and branches these also judge what the masks may harden to,
        by the `loss` on half of them and on those `judged`. What is `known` of these weights and batches is
        not measured again. Other `options` are those of `MaskLearner`.
        """
        own = {k: options.pop(k) for k in ("batches", "loss", "judged", "scores", "known") if k in options}
        return MaskLearner(**self.learner_arguments(steps, **own), **options)

    def learner_arguments(
        self,
        steps: int,
        *,
        batches: Iterable[Any] | None = None,
        loss: LossFunction | None = None,
        judged: Sequence[Any] = (),
        scores: np.ndarray | None = None,
        known: KnownLosses | None = None,
    ) -> dict[str, Any]:
        """Return what `learner` is made of, for a class of its own kind (`TransportPruner`)."""
        judge = worth = None
        starts: list[np.ndarray] = []
        if batches is not None and (scores is None or self.network.branches):
            seen, network = list(batches), self.network
            known = KnownLosses() if known is None else known
            if known.worth is None:
                known.worth = importance(network, "taylor", seen, loss)
            worth = known.worth
            if scores is None:
                scores = scores_of(worth, prices(network, self.cost, self.limits))
            if network.branches:
                judge = FittedJudge(network, seen, loss, judged)
                meter = Meter(network, self.cost, self.limits)
                starts = greedy_removals(network, meter, seen, loss, known)
        return {
            "network": self.network,
            "cost": self.cost,
            "limits": self.limits,
            "total_steps": steps,
            "scores": scores,
            "layer_keep": self.layer_keep or None,
            "judge": judge,
            "worth": worth,
            "starts": starts,
        }

    def require_deliverable(self, *, files: bool) -> Task:
        """Return this task, or raise `UnsupportedError` if its network could not be stored once it is cut.

        Asked before a training, whose result would be lost. With `files`, operators without a rule of ours
        are written as ONNX once, dense: the exporter may not know them either.
        """
        whole = compact(self.network, np.ones(self.network.n_atoms, dtype=bool), in_place=False)
        graph = whole.graph_module.graph
        require_storable(graph)
        if files and not all(map(has_rule, graph.nodes)):
            from dtp_edge.onnx.export import require_exportable

            require_exportable(whole.graph_module.eval(), self.network.example_inputs)
        return self

    def feasibility(self) -> list[dict[str, object]]:
        """Return the rows of `transport.feasibility`, and one for the keep ratios of groups."""
        rows = feasibility(self.network, self.cost, self.limits)
        if self.layer_keep:
            fewest = np.zeros(self.network.n_atoms)
            fewest[[group.start for group in self.network.groups]] = 1
            limit, dense, smallest = self.keep_ratios(fewest)[LAYER_KEEP]
            row: dict[str, object] = {"metric": LAYER_KEEP, "asked": limit, "smallest": smallest}
            row |= {"dense": dense, "unit": UNITS[LAYER_KEEP], "feasible": True, "blocked_by": ""}
            rows.append(row)
        return rows

    def keep_ratios(self, keep: np.ndarray) -> dict[str, tuple[float, float, float]]:
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

    def harden(self, scores: np.ndarray, **options: Any) -> np.ndarray:
        """Return which atoms stay for these scores, bool `[n_atoms]`: the best of `choices`."""
        return self.choices(scores, **options)[0]

    def choices(self, scores: np.ndarray, most: np.ndarray | None = None, **options: Any) -> list[np.ndarray]:
        """Return those of `transport.choices`, within keep ratios too, and of `most` `[n_groups]` atoms."""
        caps = caps_of(self.network, self.layer_keep)
        caps = caps if most is None else most if caps is None else np.minimum(caps, most)
        return choices(scores, self.network, self.cost, self.limits, caps=caps, **options)

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
