"""The network with its masks: an ordinary nn.Module whose scores learn together with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.transport.duals import LimitDuals
from dtp_edge.transport.harden import MIN_KEEP, Judge, caps_of, choices, judged
from dtp_edge.transport.meter import CostModel, Meter, require_feasible
from dtp_edge.transport.plan import Plan, Segments, floors_of, solve_plan
from dtp_edge.transport.plan_mask import PlanMask
from dtp_edge.transport.scores import initial_scores, spread
from dtp_edge.transport.warm import Warm

__all__ = ["MaskLearner"]

SPREAD = 0.03  # standard deviation of the scores: the smaller, the further an optimiser step moves them


class MaskLearner(nn.Module):
    """Runs the network with soft masks that meet a falling budget, and hardens them at the end.

    After every optimiser step call `step()`; it accumulates the scores into the plan's log-odds (the
    Bregman term), lowers the budget, and solves the dual on the true cost of the whole network: one, or one
    for every limit where several can bind (`duals`).
    Masks act on the input dimension of the weights that read a channel; the user's module is unchanged.

    **Arguments:**

    - `network`: from `trace_network`; its module becomes `self.module` and is trained in place.
    - `cost`, `limits`: `{metric: limit}`; refused with `BudgetError` if they cannot be reached.
    - `total_steps`: number of `step()` calls until the masks are hard (they are then 0 or 1 for good).
    - `scores`: `[n_atoms]` start, any scale (standardised here); None: `initial_scores(network)`.
    - `warm`: what a learner for a looser budget left: log-odds to begin with, and the budget to fall from.
    - `logit_scale`: log-odds per standard deviation of the scores at the end; sets epsilon.
    - `ramp`: share of the steps over which the budget falls from dense to its target.
    - `min_keep`: share of every group that stays whatever its scores.
    - `layer_keep`: `{group name: share}` caps, the paper's layer-wise ratios.
    - `worth`: `[n_atoms]` >= 0, by how much the loss rises without an atom (a gate's branch) at the start;
      `judge`: the loss `[k]` under masks `[k, n_atoms]`. They decide between branches and widths.
    - `dual`: "exact", or "single" for one warm-started Sinkhorn iteration a step (one dual for all limits).
    """

    straight = 0.1  # how much of the gradient passes a hard mask: with 0, early decisions are final
    log_odds: Tensor
    offset: Tensor
    sets: Tensor
    duals: Tensor
    steps_done: Tensor
    hard_mask: Tensor

    def __init__(
        self,
        network: PrunableNetwork,
        cost: CostModel,
        limits: Mapping[str, float],
        total_steps: int,
        *,
        scores: np.ndarray | None = None,
        warm: Warm | None = None,
        logit_scale: float = 100.0,
        ramp: float = 0.5,
        min_keep: float = MIN_KEEP,
        layer_keep: Mapping[str, float] | None = None,
        dual: str = "exact",
        judge: Judge | None = None,
        worth: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        if total_steps < 1:
            raise InputError(
                f"total_steps is {total_steps}.", hint="Give the number of training steps, >= 1."
            )
        if dual not in ("exact", "single"):
            raise InputError(f"unknown dual {dual!r}.", hint="There are exact and single.")
        require_feasible(network, cost, limits)
        self.network, self.cost = network, cost
        self.module = network.module
        self.total_steps, self.ramp, self.dual, self.min_keep = total_steps, ramp, dual, min_keep
        self.judge, self.worth = judge, worth
        self.tolerance = 1e-4  # relative, on the falling budget; hardening meets the final one exactly
        self.meter = Meter(network, cost, limits)
        self.limits = self.meter.limits
        self.segments = Segments(network.groups)
        self.floors = floors_of(network.groups, min_keep, self.meter)
        self.caps = caps_of(network, layer_keep)
        if self.caps is not None:
            self.floors = np.minimum(self.floors, self.caps)
        self.epsilon = 2.0 * total_steps * SPREAD / logit_scale
        start = initial_scores(network) if scores is None else np.asarray(scores, dtype=np.float64)
        self.begin, self._start = ({} if warm is None else dict(warm.limits)), spread(start, SPREAD)
        self._register(self._start)
        if warm is not None:
            self.log_odds.copy_(torch.as_tensor(warm.log_odds))
        self._solve()

    def _register(self, start: np.ndarray) -> None:
        n = len(start)
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        self.scores = nn.Parameter(torch.tensor(start, dtype=torch.float32, device=device))
        zeros = torch.zeros(n, dtype=torch.float64, device=device)
        self.register_buffer("log_odds", zeros)
        self.register_buffer("offset", zeros.clone())  # log-odds of the masks without the present scores
        self.limit_duals = LimitDuals(self.meter, device, shared=self.dual == "single")
        self.register_buffer("sets", torch.zeros(n, dtype=torch.int64, device=device))
        # the shared dual, the one before it, then each group's floor and cap duals
        self.register_buffer(
            "duals", torch.full((2 + 2 * len(self.network.groups),), torch.nan, dtype=torch.float64)
        )
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("hard_mask", torch.zeros(n, dtype=torch.bool, device=device))

    def forward(self, *inputs: Any) -> Any:
        """Run the masked network; masks are differentiable until they are hard."""
        from dtp_edge.graph import masked_forward

        return masked_forward(self.network, self.module, self.mask(), inputs)

    def mask(self) -> Tensor:
        """Return the masks `[n_atoms]`, float32, differentiable in `scores`."""
        if self._hard:
            keep = self.hard_mask
            if self.network.branches:  # a closed one runs whole, for no norm can run over nothing
                keep = torch.from_numpy(self.network.opened(keep.cpu().numpy())).to(keep.device)
            return keep.to(torch.float32)
        sets = len(self.floors) + 1
        duals = self.limit_duals
        return PlanMask.apply(  # type: ignore[return-value]
            self.scores, self.offset, duals.held(), duals.shares, self.sets, self._slope, sets, self.straight
        )

    @property
    def is_hard(self) -> bool:
        """True once `total_steps` steps are done."""
        return self._hard

    @torch.no_grad()
    def step(self) -> None:
        """Advance the plan by one mini-batch (call it after the optimiser's step, on every rank).

        **Raises:** `InputError` if training has diverged (scores that are not finite).
        """
        if self._hard:
            return
        if not bool(torch.isfinite(self.scores).all()):
            raise InputError(
                "the scores are NaN or infinite: training diverged.", hint="Lower the learning rate."
            )
        self.log_odds += (2.0 / self.epsilon) * self.scores.double()
        self.steps_done += 1
        if int(self.steps_done) >= self.total_steps:
            self.hard_mask.copy_(torch.from_numpy(self.harden()))
        else:
            self._solve()
        self._refresh()

    def _refresh(self) -> None:
        """Plain copies of what `forward` needs, so that it never waits for a tensor's value."""
        done = int(self.steps_done)
        self._hard = done >= self.total_steps
        self._slope = self.slope_after(done)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._refresh()

    def harden(self) -> np.ndarray:
        """Return which atoms stay, bool `[n_atoms]`, for the scores as averaged so far."""
        if bool(self.hard_mask.any()):
            return self.hard_mask.cpu().numpy().copy()
        found = choices(
            self.averaged_scores(),
            self.network,
            self.cost,
            self.limits,
            min_keep=self.min_keep,
            caps=self.caps,
            widths=self.segments.sum(self._mask_values()) if self.limit_duals.metrics else None,
            losses=self._losses(),
        )
        return judged(found, self.network, self.judge)

    def branch_rises(self) -> dict[str, float]:
        """How much the loss rose without each branch at the start, by name; {} where it was not measured."""
        return {b.name: float(self.worth[b.atom]) for b in self.network.branches if self.worth is not None}

    def _losses(self) -> np.ndarray | None:
        """What the loss is worth to each atom now: a standard deviation of the scores is a factor e."""
        drift = np.clip((self.averaged_scores() - self._start) / SPREAD, -4, 4)
        return None if self.worth is None else self.worth * np.exp(drift)

    def _mask_values(self) -> np.ndarray:
        return self.mask().detach().double().cpu().numpy()

    def averaged_scores(self) -> np.ndarray:
        """Return the time average of the scores, which is what the accumulated plan ranks by."""
        done = int(self.steps_done)
        if done == 0:
            return self.scores.detach().double().cpu().numpy()
        return (self.log_odds * (self.epsilon / (2.0 * done))).cpu().numpy()

    def score_parameters(self) -> list[nn.Parameter]:
        """The parameters that must have no weight decay."""
        return [self.scores]

    def parameter_groups(
        self, lr: float, weight_decay: float = 0.0, score_lr: float | None = None
    ) -> list[dict[str, Any]]:
        """Return optimiser groups: weights with decay, scores without and at `score_lr` (None: `lr`)."""
        weights = [p for name, p in self.named_parameters() if name != "scores" and p.requires_grad]
        return [
            {"params": weights, "lr": lr, "weight_decay": weight_decay},
            {"params": [self.scores], "lr": lr if score_lr is None else score_lr, "weight_decay": 0.0},
        ]

    def log(self) -> dict[str, Any]:
        """Plain numbers: step, softness (sum of m(1-m)), mean mask, costs, budget used, lowest width."""
        mask = self._mask_values()
        kept = self.segments.sum(mask) / np.maximum(self.segments.counts, 1)
        lowest = int(kept.argmin()) if len(kept) else 0
        costs = self.meter.costs(mask)
        return {
            "step": int(self.steps_done),
            "softness": float((mask * (1 - mask)).sum()),
            "mean_mask": float(mask.mean()) if len(mask) else 1.0,
            "costs": {m: costs[m] for m in self.limits},
            "budget_used": max((costs[m] / v for m, v in self.limits.items()), default=0.0),
            "budget_now": self.limits_now(),
            "lowest_width": float(kept[lowest]) if len(kept) else 1.0,
            "lowest_group": self.network.groups[lowest].name if len(kept) else "",
        }

    def limits_now(self) -> dict[str, float]:
        """The falling budget: from the dense cost, or a warm start's, to the limit, linear within `ramp`."""
        share = min(1.0, (int(self.steps_done) + 1) / max(1.0, self.ramp * self.total_steps))
        dense = self.meter.dense | self.begin
        return {m: max(v, dense[m] + share * (v - dense[m])) for m, v in self.limits.items()}

    def slope_after(self, steps: int) -> float:
        """Return what the present scores weigh in the log-odds: 2 / epsilon, whatever step it is."""
        return 2.0 / self.epsilon

    def history(self) -> Tensor:
        """Return the log-odds that past scores left, `[n_atoms]`: the previous plan of the Bregman term."""
        return self.log_odds

    def _solve(self) -> None:
        """Solve the duals for the present scores and store them with what the gradient needs."""
        self._refresh()
        history = self.history().cpu().numpy()
        z = history + self._slope * self.scores.detach().double().cpu().numpy()
        caps = self.caps_now()
        limits = self.limits_now()
        tilt = self.limit_duals.solve(z, self.segments, limits, self.floors, caps)
        history, z = history + tilt, z + tilt
        memory, groups = self.duals.cpu().numpy(), len(self.floors)
        known = not np.isnan(memory[0])
        # the dual moves almost evenly from step to step, because the scores add up at one rate
        drift = 0.0 if np.isnan(memory[1]) else memory[0] - memory[1]
        guess = float(memory[0] + drift) if known else None
        plan = solve_plan(
            z,
            self.meter,
            self.segments,
            limits,
            floors=self.floors,
            caps=caps,
            guess=guess,
            low_guess=memory[2 : 2 + groups] if known else None,
            high_guess=memory[2 + groups :] if known and caps is not None else None,
            tolerance=self.tolerance,
            single_step=self.dual == "single" and known,
        )
        self.limit_duals.note(plan, limits)
        self._store(plan, history, float(memory[0]))

    def caps_now(self) -> np.ndarray | None:
        """Layer-wise caps fall with the budget; None where there are none."""
        if self.caps is None:
            return None
        share = min(1.0, (int(self.steps_done) + 1) / max(1.0, self.ramp * self.total_steps))
        return self.segments.counts + share * (self.caps - self.segments.counts)

    def _store(self, plan: Plan, history: np.ndarray, before: float) -> None:
        high = np.where(np.isfinite(plan.high), plan.high, 0.0)
        memory = np.concatenate([[plan.dual, before], plan.low, high])
        values = ((self.offset, history + plan.shift), (self.sets, plan.sets), (self.duals, memory))
        for buffer, value in values:
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(value)))
