"""Whole widths: never over a budget, close to the best, nobody starved."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.problems.toy import ChainCost, chain_network
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.transport import harden


def random_case(seed: int) -> tuple[PrunableNetwork, ChainCost, dict[str, float], np.ndarray]:
    rng = np.random.default_rng(seed)
    hidden = [int(n) for n in rng.integers(2, 8, size=rng.integers(1, 4))]
    ends = [int(n) for n in rng.integers(1, 6, size=2)]
    network = chain_network(ends[0], hidden, ends[1])
    cost = ChainCost(*ends, step=int(rng.choice([1, 1, 2, 4])), widths=len(hidden))
    dense, small = cost.evaluate(np.array(hidden, float)), cost.evaluate(np.ones(len(hidden)))
    chosen = rng.choice(cost.metrics, size=rng.integers(1, 4), replace=False)
    limits = {str(m): small[m] + (dense[m] - small[m]) * rng.uniform(0.02, 0.95) for m in chosen}
    return network, cost, limits, rng.uniform(0, 1, network.n_atoms)


def best_value(network: PrunableNetwork, cost: ChainCost, limits: dict[str, float], v: np.ndarray) -> float:
    """The optimum, by trying every combination of widths."""
    totals = [np.concatenate([[0], np.cumsum(np.sort(v[g.start : g.stop])[::-1])]) for g in network.groups]
    best = 0.0
    for widths in itertools.product(*[range(1, len(t)) for t in totals]):
        costs = cost.evaluate(np.array(widths, float))
        if all(costs[m] <= limit for m, limit in limits.items()):
            best = max(best, sum(float(t[w]) for t, w in zip(totals, widths, strict=True)))
    return best


def costs_of(network: PrunableNetwork, cost: ChainCost, keep: np.ndarray) -> dict[str, float]:
    return cost.evaluate(network.layers.sizes(keep.astype(float)))


@pytest.mark.parametrize(("first", "count"), [(0, 60), pytest.param(60, 940, marks=pytest.mark.slow)])
def test_close_to_brute_force(first: int, count: int) -> None:
    good = 0
    for seed in range(first, first + count):
        network, cost, limits, values = random_case(seed)
        keep = harden(values, network, cost, limits, values=values, min_keep=0)
        costs = costs_of(network, cost, keep)
        assert all(costs[m] <= limit for m, limit in limits.items())
        good += values[keep].sum() >= 0.99 * best_value(network, cost, limits, values)
    print(f"{good} of {count} within 1 % of the optimum")
    assert good >= 0.95 * count


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), equal=st.booleans())
def test_never_over_a_budget_and_never_empty(seed: int, equal: bool) -> None:
    network, cost, limits, scores = random_case(seed)
    keep = harden(np.zeros_like(scores) if equal else scores - 0.5, network, cost, limits)
    costs = costs_of(network, cost, keep)
    assert all(costs[m] <= limit for m, limit in limits.items())
    assert all(keep[g.start : g.stop].any() for g in network.groups)
    for g in network.groups:  # within a group the best stay
        inside = scores[g.start : g.stop][keep[g.start : g.stop]]
        outside = scores[g.start : g.stop][~keep[g.start : g.stop]]
        assert equal or not len(outside) or inside.min() >= outside.max()
    for i in np.flatnonzero(~keep):  # nothing more fits
        more = keep.copy()
        more[i] = True
        costs = costs_of(network, cost, more)
        assert any(costs[m] > limit for m, limit in limits.items())


def test_equal_scores_are_cut_everywhere_alike() -> None:
    network, cost = chain_network(8, [40, 40, 40], 8), ChainCost(8, 8, widths=3)
    dense = cost.evaluate(np.full(3, 40.0))
    keep = harden(np.zeros(120), network, cost, {"macs": 0.4 * dense["macs"]})
    kept = [int(keep[g.start : g.stop].sum()) for g in network.groups]
    assert max(kept) - min(kept) <= 3


def test_what_is_free_on_the_staircase_is_kept() -> None:
    network, cost = chain_network(8, [32, 32], 8), ChainCost(8, 8, step=8, widths=2)
    dense = cost.evaluate(np.full(2, 32.0))
    scores = np.random.default_rng(0).normal(size=64)
    keep = harden(scores, network, cost, {"latency_ms": 0.5 * dense["latency_ms"]})
    assert all(int(keep[g.start : g.stop].sum()) % 8 == 0 for g in network.groups)


def test_no_layer_is_starved_unless_the_budget_demands_it() -> None:
    network, cost = chain_network(8, [40, 40, 40], 8), ChainCost(8, 8, widths=3)
    dense = cost.evaluate(np.full(3, 40.0))
    scores = np.random.default_rng(0).normal(size=120)
    scores[40:80] -= 100
    keep = harden(scores, network, cost, {"macs": 0.3 * dense["macs"]})
    assert 4 <= keep[40:80].sum() <= 8  # the floor, and what was left over
    tiny = {"macs": cost.evaluate(np.ones(3))["macs"]}
    assert harden(scores, network, cost, tiny).sum() == 3


def test_caps_are_layer_wise_ratios() -> None:
    network, cost = chain_network(8, [40, 40], 8), ChainCost(8, 8, widths=2)
    scores = np.random.default_rng(0).normal(size=80)
    keep = harden(scores, network, cost, {}, caps=np.array([10, 30]))
    assert [keep[:40].sum(), keep[40:].sum()] == [10, 30]
    assert scores[:40][keep[:40]].min() > scores[:40][~keep[:40]].max()
