"""Branches and widths under one exact budget: against brute force, and never worse than either alone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.problems.residual import ResidualCost, best_worth, random_case, residual_network
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.transport import harden
from dtp_edge.transport.harden import choices, judged
from dtp_edge.transport.meter import feasibility


def used(network: PrunableNetwork, cost: ResidualCost, limits: dict[str, float], keep: np.ndarray) -> float:
    costs = cost.evaluate(network.layers.sizes(keep.astype(float)))
    return max(costs[m] / limit for m, limit in limits.items())


@pytest.mark.parametrize(("first", "count"), [(60, 40), pytest.param(0, 1000, marks=pytest.mark.slow)])
def test_close_to_brute_force(first: int, count: int) -> None:
    good = 0
    for seed in range(first, first + count):
        network, cost, limits, values = random_case(seed)
        keep = harden(values, network, cost, limits, values=values, min_keep=0)
        assert used(network, cost, limits, keep) <= 1
        assert network.depth.fault(keep) is None
        assert np.array_equal(keep, network.settled(keep))
        best = best_worth(network, cost, limits, values)
        assert values[keep].sum() <= best + 1e-9
        good += values[keep].sum() >= 0.99 * best
    print(f"{good} of {count} within 1 % of the optimum")
    assert good >= 0.95 * count


def case(budget: float) -> tuple[PrunableNetwork, ResidualCost, dict[str, float]]:
    network = residual_network(8, [8, 8, 8], [None] * 3, [None] * 3)
    cost = ResidualCost(3, overhead=8.0)
    dense = cost.evaluate(network.layers.sizes(np.ones(network.n_atoms)))
    return network, cost, {"latency_ms": budget * dense["latency_ms"]}


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.7])
def test_never_worth_less_than_widths_alone_or_depth_alone(budget: float) -> None:
    network, cost, limits = case(budget)
    for seed in range(6):
        values = np.random.default_rng(seed).uniform(0.1, 1, network.n_atoms)
        found = harden(values, network, cost, limits, values=values, min_keep=0)
        plain = PrunableNetwork(**{**vars_of(network), "depth": type(network.depth)()})
        # the same network whose gates are channels that no one may close: widths alone
        alone = harden(values, plain, cost, limits, values=np.where(gates(network), 1e3, values), min_keep=0)
        assert values[found].sum() >= 0.99 * values[alone].sum()
        for closed in ([0], [0, 1], [1, 2], [0, 2], [0, 1, 2]):
            keep = np.ones(network.n_atoms, dtype=bool)
            keep[[network.branches[i].atom for i in closed]] = False
            keep = network.settled(keep)
            if used(network, cost, limits, keep) <= 1:
                assert values[found].sum() >= 0.999 * values[keep].sum()


def vars_of(network: PrunableNetwork) -> dict[str, object]:
    names = ["module", "graph_module", "example_inputs", "groups", "frozen", "tensor_labels", "node_labels"]
    names += ["parameter_sites", "node_sites", "layers", "depth"]
    return {name: getattr(network, name) for name in names}


def gates(network: PrunableNetwork) -> np.ndarray:
    found = np.zeros(network.n_atoms, dtype=bool)
    found[[b.atom for b in network.branches]] = True
    return found


def test_a_worthless_branch_goes_and_a_precious_one_stays() -> None:
    network, cost, limits = case(0.6)
    values = np.full(network.n_atoms, 0.5)
    for branch, worth in zip(network.branches, (0.0, 50.0, 50.0), strict=True):
        values[branch.atom] = worth
    inner = network.groups[1]
    values[inner.start : inner.stop] = 1e-3
    keep = harden(values, network, cost, limits, values=values)
    assert [bool(keep[b.atom]) for b in network.branches] == [False, True, True]
    assert not keep[inner.start : inner.stop].any()
    assert used(network, cost, limits, keep) > 0.9


def test_losses_decide_between_branches_and_scores_between_channels() -> None:
    network, cost, limits = case(0.6)
    rng = np.random.default_rng(0)
    for cheap in range(3):
        losses = rng.uniform(0.05, 0.1, network.n_atoms)
        for i, branch in enumerate(network.branches):
            losses[branch.atom] = 0.01 if i == cheap else 5.0
        keep = choices(rng.normal(size=network.n_atoms), network, cost, limits, losses=losses)[0]
        assert [bool(keep[b.atom]) for b in network.branches] == [i != cheap for i in range(3)]


def test_a_judge_has_the_last_word() -> None:
    network, cost, limits = case(0.5)
    values = np.random.default_rng(1).uniform(0.1, 1, network.n_atoms)
    found = choices(values, network, cost, limits, values=values)
    assert len(found) > 2
    assert all(used(network, cost, limits, keep) <= 1 for keep in found)
    most_open = max(range(len(found)), key=lambda i: found[i][gates(network)].sum())

    def judge(masks: np.ndarray) -> np.ndarray:
        assert masks.shape == (len(found), network.n_atoms)
        return -masks[:, gates(network)].sum(1)

    assert judged(found, network, judge)[gates(network)].sum() == found[most_open][gates(network)].sum()
    assert judged(found, network, None) is found[0]


def test_cuts_that_leave_the_stream_whole_are_among_those_judged() -> None:
    network, cost, limits = case(0.6)
    stream, inners = network.groups[0], network.groups[1:4]
    values = np.random.default_rng(2).uniform(0.4, 0.6, network.n_atoms)
    values[stream.start : stream.stop] = 1e-3  # worth little to the first order, as streams look
    found = choices(values, network, cost, limits, values=values)
    kept = [
        [int(keep[g.start : g.stop].sum()) for g in inners] for keep in found if keep[: stream.stop].all()
    ]
    assert any(0 < min(widths) < 8 for widths in kept), "with narrower branches, not only fewer"


def test_one_of_two_twins_stays_however_small_the_budget() -> None:
    network = residual_network(4, [4, 4], [None, None], [1, 0])
    cost = ResidualCost(2, overhead=2.0)
    dense = cost.evaluate(network.layers.sizes(np.ones(network.n_atoms)))
    rows = feasibility(network, cost, {"latency_ms": dense["latency_ms"]})
    smallest = next(float(r["smallest"]) for r in rows if r["metric"] == "latency_ms")  # type: ignore[arg-type]
    keep = harden(np.zeros(network.n_atoms), network, cost, {"latency_ms": smallest})
    assert sum(bool(keep[b.atom]) for b in network.branches) == 1
    costs = cost.evaluate(network.layers.sizes(keep.astype(float)))
    assert costs["latency_ms"] == pytest.approx(smallest)


def test_the_smallest_network_has_no_branch_that_can_go() -> None:
    network, cost, limits = case(0.9)
    rows = {str(r["metric"]): r for r in feasibility(network, cost, limits)}
    mask = np.zeros(network.n_atoms)
    mask[network.groups[0].start] = 1
    alone = cost.evaluate(network.layers.sizes(mask))
    assert rows["latency_ms"]["smallest"] == pytest.approx(alone["latency_ms"])
    assert rows["params"]["smallest"] == pytest.approx(alone["params"])
