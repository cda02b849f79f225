"""What masks cost against limits: by hand, and its marginal costs by finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.problems.toy import BranchCost, branch_network
from dtp_edge.errors import BudgetError, InputError
from dtp_edge.transport.budget import KEPT
from dtp_edge.transport.meter import Meter, feasibility, prices, require_feasible

HIDDEN = (3, 4, 5)
NETWORK = branch_network(6, HIDDEN, 2)
COST = BranchCost(6, 2)
DENSE = COST.evaluate(np.array(HIDDEN, float))


def soft_mask(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, sum(HIDDEN))


@pytest.mark.parametrize("metric", [*COST.metrics, KEPT])
def test_marginal_costs_by_finite_differences(metric: str) -> None:
    meter = Meter(NETWORK, COST, {metric: 1.0})
    mask, h = soft_mask(), 1e-5
    found = meter.marginal(mask, metric)
    for atom in range(len(mask)):
        step = np.eye(len(mask))[atom] * h
        slope = (meter.costs(mask + step)[metric] - meter.costs(mask - step)[metric]) / (2 * h)
        assert found[atom] == pytest.approx(slope, rel=1e-5)


def test_what_is_used_is_the_tightest_limit() -> None:
    limits = {"macs": 0.7 * DENSE["macs"], "params": 0.5 * DENSE["params"]}
    meter, mask = Meter(NETWORK, COST, limits), soft_mask(1)
    sizes = np.array([part.sum() for part in np.split(mask, np.cumsum(HIDDEN)[:-1])])
    costs = COST.evaluate(sizes)
    shares = {m: costs[m] / limit for m, limit in limits.items()}
    used, metric = meter.used(mask)
    assert used == pytest.approx(max(shares.values()))
    assert shares[metric] == max(shares.values())
    assert meter.fits(mask) == (used <= 1)
    assert meter.used(mask, {}) == (0.0, "")
    assert not meter.fits(np.ones(sum(HIDDEN)))


def test_a_share_of_the_channels_is_a_share_and_more_is_a_count() -> None:
    assert Meter(NETWORK, COST, {KEPT: 0.25}).limits[KEPT] == 3.0
    assert Meter(NETWORK, COST, {KEPT: 7}).limits[KEPT] == 7.0


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_limits_that_are_none_are_refused(limit: float) -> None:
    with pytest.raises(InputError, match="not a finite number above 0"):
        Meter(NETWORK, COST, {"macs": limit})


def test_a_metric_that_the_cost_has_not_is_refused() -> None:
    with pytest.raises(InputError, match="has no joules"):
        Meter(NETWORK, COST, {"joules": 1.0})


def test_prices_are_marginal_shares_of_the_limits_that_are_exceeded() -> None:
    limits = {"macs": 0.5 * DENSE["macs"], "latency_ms": 2 * DENSE["latency_ms"], "flash_bytes": 1.0}
    found = prices(NETWORK, COST, limits)  # latency is met already, memory takes no part
    ratio = np.repeat(COST.pixels, HIDDEN) * (6 + 2) / limits["macs"]
    np.testing.assert_allclose(found, np.maximum(ratio, 0.01 * ratio.mean()))
    assert (prices(NETWORK, COST, {"flash_bytes": 1.0}) == 1).all()


def test_feasibility_by_hand() -> None:
    least = COST.evaluate(np.ones(3))
    limits = {"macs": least["macs"], "params": 0.99 * least["params"]}
    rows = {row["metric"]: row for row in feasibility(NETWORK, COST, limits)}
    assert rows["macs"]["feasible"] is True
    assert rows["params"]["feasible"] is False
    assert rows["params"]["smallest"] == least["params"]
    assert rows["params"]["dense"] == DENSE["params"]
    assert rows["latency_ms"]["asked"] is None
    assert rows["params"]["blocked_by"] != ""
    with pytest.raises(BudgetError, match="cannot be reached") as refused:
        require_feasible(NETWORK, COST, limits)
    assert refused.value.exit_code == 3
    require_feasible(NETWORK, COST, {"macs": least["macs"]})
