"""Devices on which more channels can cost less: the cheapest network is searched, and hardening uses it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.problems.toy import ChainCost, chain_network
from dtp_edge.errors import BudgetError
from dtp_edge.transport import MaskLearner, Meter, feasibility, harden, require_feasible
from dtp_edge.transport.smallest import first_atoms, least_counts, steps_of

NETWORK = chain_network(8, [16, 24, 16], 8)


class BlockedCost(ChainCost):
    """A layer whose input is no whole block runs on plain data: 6 times slower."""

    def evaluate(self, sizes: np.ndarray) -> dict[str, float]:
        found = super().evaluate(sizes)
        full = np.concatenate([[self.inputs], sizes, [self.outputs]])
        work, whole = full[:-1] * full[1:], np.ceil(full - 1e-6)
        slow = np.where(whole[:-1] % self.step == 0, 1.0, 6.0)
        found["latency_ms"] = 1e-3 * float((np.maximum(work, 16.0) * slow).sum())
        return found


COST = BlockedCost(8, 8, step=4, widths=3)
DENSE = COST.evaluate(np.array([16.0, 24.0, 16.0]))


def brute_force(metric: str) -> float:
    grids = [range(1, g.stop - g.start + 1) for g in NETWORK.groups]
    return min(COST.evaluate(np.array(w, float))[metric] for w in itertools.product(*grids))


def test_the_smallest_latency_is_found_beyond_one_channel() -> None:
    ones = COST.evaluate(np.ones(3))["latency_ms"]
    best = brute_force("latency_ms")
    assert best < 0.6 * ones
    rows = {r["metric"]: r for r in feasibility(NETWORK, COST, {"latency_ms": 0.5 * best})}
    assert rows["latency_ms"]["smallest"] == pytest.approx(best)
    assert not rows["latency_ms"]["feasible"]
    with pytest.raises(BudgetError):
        require_feasible(NETWORK, COST, {"latency_ms": 0.99 * best})
    limits = {"latency_ms": 1.01 * best}
    require_feasible(NETWORK, COST, limits)
    keep = harden(np.arange(56.0), NETWORK, COST, limits)
    assert Meter(NETWORK, COST, limits).fits(keep.astype(float))
    learner = MaskLearner(NETWORK, COST, limits, 5)
    while not learner.is_hard:
        learner.step()
    assert learner.log()["budget_used"] <= 1.0


def test_budgets_that_fit_alone_but_not_together_are_refused() -> None:
    limits = {"latency_ms": 1.01 * brute_force("latency_ms"), "params": 1.2 * brute_force("params")}
    for metric, limit in limits.items():
        require_feasible(NETWORK, COST, {metric: limit})
    with pytest.raises(BudgetError):
        require_feasible(NETWORK, COST, limits)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_hardening_spends_the_budget_where_costs_fall_and_rise(share: float) -> None:
    limits = {"latency_ms": share * DENSE["latency_ms"]}
    for seed in range(5):
        keep = harden(np.random.default_rng(seed).normal(size=56), NETWORK, COST, limits)
        meter = Meter(NETWORK, COST, limits)
        assert meter.fits(keep.astype(float))
        counts = np.array([keep[g.start : g.stop].sum() for g in NETWORK.groups])
        for g, step in enumerate(steps_of(NETWORK, COST)):  # one more step of any group is too much
            more = counts.copy()
            more[g] = min(more[g] + step - more[g] % step, NETWORK.groups[g].stop - NETWORK.groups[g].start)
            assert more[g] == counts[g] or not meter.fits(first_atoms(NETWORK, more))


def test_rising_costs_need_no_search() -> None:
    meter = Meter(NETWORK, ChainCost(8, 8, widths=3), {"macs": 1e9})
    assert least_counts(meter).tolist() == [1, 1, 1]
    assert meter.evaluations == 0
