"""A dual for every limit: the convex dual's optimum, both budgets used, true gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.differences import assert_score_gradient

from benchmarks.problems.toy import BranchCost, branch_network
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.transport import Budget, MaskLearner, Meter
from dtp_edge.transport.duals import marginal_costs, shares_of, solve_limits
from dtp_edge.transport.harden import harden
from dtp_edge.transport.plan import Segments, sigmoid, solve_plan
from dtp_edge.zoo.mobilenet import MobileNetV1

HIDDEN = (24, 32, 40)
NETWORK = branch_network(8, HIDDEN, 6)


class FirstPaysRam(BranchCost):
    """Only the first group is live at the peak: the other limit is paid by all."""

    def evaluate(self, sizes: np.ndarray) -> dict[str, float]:
        return {**super().evaluate(sizes), "peak_ram_bytes": 64.0 * float(sizes[0])}

    def gradient(self, sizes: np.ndarray, metric: str) -> np.ndarray:
        if metric == "peak_ram_bytes":
            return np.array([64.0, 0.0, 0.0])
        return super().gradient(sizes, metric)


COST = FirstPaysRam(8, 6)
DENSE = COST.evaluate(np.array(HIDDEN, dtype=float))


def limits_at(ram: float, flash: float) -> dict[str, float]:
    return {"peak_ram_bytes": ram * DENSE["peak_ram_bytes"], "flash_bytes": flash * DENSE["flash_bytes"]}


def log_odds(seed: int, scale: float = 5.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=NETWORK.n_atoms)


def free_bounds() -> tuple[np.ndarray, np.ndarray]:
    n = len(NETWORK.groups)
    return np.full(n, -np.inf), np.full(n, np.inf)


def used_by(meter: Meter, mask: np.ndarray) -> dict[str, float]:
    return {m: meter.costs(mask)[m] / limit for m, limit in meter.limits.items()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shares", [(0.5, 0.4), (0.3, 0.6), (0.95, 0.2)])
def test_duals_are_the_optimum_of_the_convex_dual(seed: int, shares: tuple[float, float]) -> None:
    """With costs that are sums the plan maximises sum w m z plus entropy: a convex dual in two numbers."""
    limits = limits_at(*shares)
    meter, z = Meter(NETWORK, COST, limits), log_odds(seed)
    costs = marginal_costs(meter, np.ones(NETWORK.n_atoms), meter.limits)
    duals, _, binds = solve_limits(
        z, meter, Segments(NETWORK.groups), meter.limits, free_bounds(), costs, tolerance=1e-9, rounds=400
    )
    weight, price = torch.tensor(costs.sum(0)), torch.tensor(shares_of(costs))
    log_z, b = torch.tensor(z), torch.tensor(-duals, requires_grad=True)
    # flash has a part that no mask changes
    fixed = torch.tensor([0.0, COST.evaluate(np.zeros(3))["flash_bytes"] / limits["flash_bytes"]])
    value = (weight * torch.nn.functional.softplus(log_z - b @ price)).sum() + (b * (1 - fixed)).sum()
    (slope,) = torch.autograd.grad(value, b)  # 0 where a limit binds, >= 0 where it is slack at its lowest
    for k in range(2):
        assert float(slope[k]) == pytest.approx(0.0, abs=1e-4) if binds[k] else float(slope[k]) > -1e-4
    assert binds.any()


def test_one_dual_leaves_the_other_limit_unused_and_two_do_not() -> None:
    limits = limits_at(0.3, 0.6)
    meter, z, segments = Meter(NETWORK, COST, limits), log_odds(0), Segments(NETWORK.groups)
    floors = np.ones(3, dtype=np.int64)
    one = used_by(meter, solve_plan(z, meter, segments, meter.limits, floors=floors).mask)
    assert one["peak_ram_bytes"] == pytest.approx(1.0, abs=1e-3)
    assert one["flash_bytes"] < 0.8
    costs = marginal_costs(meter, np.ones(NETWORK.n_atoms), meter.limits)
    duals, r, binds = solve_limits(z, meter, segments, meter.limits, segments.bounds(z, floors, None), costs)
    plan = solve_plan(z + duals @ r, meter, segments, meter.limits, floors=floors)
    two = used_by(meter, plan.mask)
    assert binds.all()
    assert all(0.99 < share <= 1.0 for share in two.values()), two


def test_a_limit_that_cannot_bind_has_no_dual() -> None:
    learner = MaskLearner(NETWORK, COST, limits_at(1.0, 0.5), 10)
    assert learner.limit_duals.metrics == ()
    assert learner.limit_duals.costs.shape == (1, NETWORK.n_atoms)


def test_a_slack_limit_keeps_all_that_only_it_would_charge() -> None:
    """Flash binds far below RAM: who pays RAM as well is not held back for it."""
    meter, z = Meter(NETWORK, COST, limits_at(0.95, 0.2)), log_odds(1)
    costs = marginal_costs(meter, np.ones(NETWORK.n_atoms), meter.limits)
    duals, _, binds = solve_limits(
        z, meter, Segments(NETWORK.groups), meter.limits, free_bounds(), costs, rounds=50
    )
    assert binds.tolist() == [False, True]
    assert duals[0] == pytest.approx(8.0 - z.min())


def test_a_peak_remembers_who_paid_it_lately() -> None:
    class Moving(FirstPaysRam):
        def gradient(self, sizes: np.ndarray, metric: str) -> np.ndarray:
            if metric == "peak_ram_bytes" and sizes[0] < 20:
                return np.array([0.0, 64.0, 0.0])
            return super().gradient(sizes, metric)

    meter = Meter(NETWORK, Moving(8, 6), limits_at(0.5, 0.5))
    first = marginal_costs(meter, np.ones(NETWORK.n_atoms), meter.limits)
    narrow = np.ones(NETWORK.n_atoms)
    narrow[:12] = 0
    second = marginal_costs(meter, narrow, meter.limits, first)
    assert second[0, 0] == pytest.approx(0.8 * first[0, 0])
    assert second[0, 24] == pytest.approx(first[0, 0])
    np.testing.assert_allclose(second[1], marginal_costs(meter, narrow, meter.limits)[1])


def both_bind(straight: float = 0.0) -> MaskLearner:
    learner = MaskLearner(NETWORK, COST, limits_at(0.4, 0.5), 40, ramp=0.1, min_keep=0.05)
    learner.straight = straight
    rng = np.random.default_rng(0)
    with torch.no_grad():
        learner.scores.copy_(torch.tensor(0.3 * rng.normal(size=NETWORK.n_atoms)))
    return learner


def test_score_gradient_equals_finite_differences_of_both_budgets() -> None:
    """For every perturbed score both duals are found again, by Newton's method on the true costs."""
    learner = both_bind()
    learner.double()
    learner.tolerance = 1e-12
    for _ in range(6):
        learner.step()
    assert bool(learner.limit_duals.binds.all())
    assert bool((learner.sets == 0).all())
    shares, now = learner.limit_duals.shares.numpy(), learner.limits_now()
    history = learner.log_odds.numpy()
    offset = learner.offset.numpy() - history

    def mask(scores: np.ndarray) -> np.ndarray:
        z, b = history + offset + 2.0 / learner.epsilon * scores, np.zeros(2)

        def excess(b: np.ndarray) -> np.ndarray:
            costs = learner.meter.costs(sigmoid(z + b @ shares))
            return np.array([costs[m] / limit - wanted[m] for m, limit in now.items()])

        for _ in range(30):
            f, h = excess(b), 1e-6
            jacobian = np.stack([(excess(b + h * e) - excess(b - h * e)) / (2 * h) for e in np.eye(2)], 1)
            b = b - np.linalg.solve(jacobian, f)
        assert np.abs(excess(b)).max() < 1e-12
        return sigmoid(z + b @ shares)

    at = learner.meter.costs(learner.mask().detach().numpy())
    wanted = {m: at[m] / limit for m, limit in now.items()}
    assert all(0.998 < share <= 1.0 for share in wanted.values()), wanted
    g = np.random.default_rng(1).normal(size=NETWORK.n_atoms)
    assert_score_gradient(learner, mask, g, rel=1e-4)


def test_moving_the_scores_along_a_dual_changes_nothing() -> None:
    learner = both_bind(straight=0.1)
    for _ in range(6):
        learner.step()
    g = torch.from_numpy(np.random.default_rng(1).normal(size=NETWORK.n_atoms)).float()
    learner.mask().backward(g)
    assert learner.scores.grad is not None
    grad = learner.scores.grad.double()
    moved = learner.limit_duals.shares @ grad
    assert float(moved.abs().max()) < 1e-5 * float((learner.limit_duals.shares @ grad.abs()).max())


@pytest.mark.parametrize("seed", range(4))
def test_hard_masks_use_both_budgets(seed: int) -> None:
    learner = MaskLearner(NETWORK, COST, limits_at(0.4, 0.5), 30, scores=log_odds(seed, 1.0))
    for _ in range(30):
        learner.step()
    assert learner.is_hard
    keep = learner.harden().astype(float)
    used = used_by(learner.meter, keep)
    assert all(share <= 1.0 for share in used.values())
    # one channel of the first group is 4 % of RAM, one of any group 2 % of flash
    assert used["peak_ram_bytes"] > 0.89
    assert used["flash_bytes"] > 0.97


def test_widths_to_round_are_met_from_below() -> None:
    widths = np.array([9.6, 12.3, 20.5])
    limits = {m: COST.evaluate(widths)[m] for m in ("peak_ram_bytes", "flash_bytes")}
    keep = harden(log_odds(0), NETWORK, COST, limits, widths=widths)
    counts = Segments(NETWORK.groups).sum(keep.astype(float))
    assert all(used <= 1.0 for used in used_by(Meter(NETWORK, COST, limits), keep.astype(float)).values())
    assert np.abs(counts - widths).max() < 1.0
    assert counts[0] == 9


def test_widths_that_do_not_fit_are_not_used() -> None:
    limits = limits_at(0.3, 0.3)
    keep = harden(log_odds(0), NETWORK, COST, limits, widths=np.array(HIDDEN, dtype=float))
    np.testing.assert_array_equal(keep, harden(log_odds(0), NETWORK, COST, limits))


def test_three_budgets_of_a_real_network_are_all_used() -> None:
    """MobileNetV1 on a microcontroller: RAM is paid by the first layers, flash by the last."""
    torch.manual_seed(0)
    network = trace_network(MobileNetV1(10, 1, width=0.25, first_stride=1), (torch.zeros(1, 1, 28, 28),))
    cost = NetworkCost(network.layers, load_profile("stm32l4r5-cubeai-int8"))
    dense = cost.evaluate(network.layers.sizes(np.ones(network.n_atoms)))
    limits = Budget(ram="60%", flash="35%", latency="50%").limits(dense)
    learner = MaskLearner(network, cost, limits, 100)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        with torch.no_grad():
            learner.scores += 5e-4 * torch.randn(network.n_atoms, generator=generator)
        learner.step()
    assert bool(learner.limit_duals.binds.all())
    used = used_by(learner.meter, learner.mask().detach().double().numpy())
    assert all(0.99 < share <= 1.0 for share in used.values()), used
    single = MaskLearner(network, cost, limits, 100, dual="single")
    for _ in range(80):
        single.step()
    rest = used_by(single.meter, single.mask().detach().double().numpy())
    assert min(rest.values()) < 0.97  # one dual for all leaves something
