"""The network's dual: budgets met from below, floors held, gradients equal to finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.differences import assert_score_gradient

from benchmarks.problems.toy import ChainCost, chain_network
from dtp_edge.errors import BudgetError, InputError
from dtp_edge.transport import MaskLearner, Meter, feasibility, require_feasible
from dtp_edge.transport.plan import Segments, floors_of, sigmoid, solve_plan

NETWORK = chain_network(16, [24, 32, 12], 10)
COST = ChainCost(16, 10, step=4, widths=3)
DENSE = COST.evaluate(np.array([24.0, 32.0, 12.0]))


def limits_at(share: float, *metrics: str) -> dict[str, float]:
    return {metric: share * DENSE[metric] for metric in metrics}


def solved(z: np.ndarray, limits: dict[str, float], **options: object):
    meter = Meter(NETWORK, COST, limits)
    floors = floors_of(NETWORK.groups, 0.1, meter)
    segments = Segments(NETWORK.groups)
    return solve_plan(z, meter, segments, meter.limits, floors=floors, **options), meter  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "metrics", [("macs",), ("latency_ms",), ("peak_ram_bytes",), ("macs", "peak_ram_bytes")]
)
@pytest.mark.parametrize("scale", [0.1, 5.0, 300.0])
def test_the_tightest_budget_is_just_met(metrics: tuple[str, ...], scale: float) -> None:
    z = scale * np.random.default_rng(0).normal(size=NETWORK.n_atoms)
    plan, meter = solved(z, limits_at(0.6, *metrics), tolerance=1e-6)
    costs = meter.costs(plan.mask)
    used = max(costs[m] / meter.limits[m] for m in metrics)
    assert used <= 1.0
    assert used >= 1.0 - 1e-6


def test_warm_start_needs_few_evaluations() -> None:
    z = 5 * np.random.default_rng(0).normal(size=NETWORK.n_atoms)
    plan, meter = solved(z, limits_at(0.5, "macs"))
    before = meter.evaluations
    again, meter = solved(z * 1.01, limits_at(0.5, "macs"), guess=plan.dual * 1.01)
    assert meter.evaluations <= 5 < before
    assert again.used <= 1.0


def test_floors_hold_in_a_group_of_poor_scores() -> None:
    z = np.zeros(NETWORK.n_atoms)
    z[24:56] = -500.0
    plan, _ = solved(z, limits_at(0.25, "macs"))
    assert plan.mask[24:56].sum() == pytest.approx(4, rel=1e-6)
    assert plan.mask[:24].sum() > 12


def test_group_duals_meet_their_targets() -> None:
    segments = Segments(NETWORK.groups)
    z = 50 * np.random.default_rng(1).normal(size=NETWORK.n_atoms)
    b = segments.dual(z, np.array([3.0, 20.0, 12.0]))
    assert segments.sum(sigmoid(z + b[segments.of_atom])) == pytest.approx([3, 20, 12])


@pytest.mark.parametrize("metrics", [("macs",), ("flash_bytes",)])
def test_score_gradient_equals_finite_differences(metrics: tuple[str, ...]) -> None:
    """The dual is solved again on the true cost for every perturbed score."""
    rng = np.random.default_rng(0)
    learner = MaskLearner(NETWORK, COST, limits_at(0.5, *metrics), 40, ramp=0.1, min_keep=0.3)
    learner.straight = 0.0
    with torch.no_grad():
        learner.scores.copy_(torch.tensor(0.3 * rng.normal(size=NETWORK.n_atoms)))
    learner.double()
    learner.tolerance = 1e-13
    for _ in range(6):
        learner.step()
    options = {"floors": learner.floors, "tolerance": 1e-13, "guess": float(learner.duals[0])}

    def mask(scores: np.ndarray) -> np.ndarray:
        z = learner.log_odds.numpy() + 2.0 / learner.epsilon * scores
        now = learner.limits_now()
        return solve_plan(z, learner.meter, learner.segments, now, **options).mask  # type: ignore[arg-type]

    assert_score_gradient(learner, mask, rng.normal(size=NETWORK.n_atoms), rel=1e-5)


def test_infeasible_budgets_are_refused_with_the_smallest_values() -> None:
    rows = {str(r["metric"]): r for r in feasibility(NETWORK, COST, limits_at(0.01, "macs"))}
    assert rows["macs"]["smallest"] == COST.evaluate(np.ones(3))["macs"]
    assert rows["latency_ms"]["asked"] is None
    with pytest.raises(BudgetError) as caught:
        require_feasible(NETWORK, COST, limits_at(0.01, "macs", "params"))
    assert {row["metric"] for row in caught.value.rows if not row["feasible"]} == {"macs", "params"}
    assert all(row["blocked_by"] for row in caught.value.rows if not row["feasible"])
    with pytest.raises(BudgetError):
        MaskLearner(NETWORK, COST, limits_at(0.01, "macs"), 10)
    with pytest.raises(InputError):
        Meter(NETWORK, COST, {"joules": 1.0})


def test_the_smallest_feasible_budget_is_accepted() -> None:
    smallest = COST.evaluate(np.ones(3))
    require_feasible(NETWORK, COST, smallest)
    keep = MaskLearner(NETWORK, COST, smallest, 3).harden()
    assert keep.sum() == 3
