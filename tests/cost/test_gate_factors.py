"""Costs behind gates: against the compact network traced anew, products by hand, finite differences."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import dtp_edge
from benchmarks.problems.keeps import random_depth
from benchmarks.problems.random_branches import BranchedNetwork
from benchmarks.problems.random_networks import trace_quickly
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import trace_network
from dtp_edge.surgery import compact
from tests.helpers.branched import BRANCHED, branched

PROFILES = ("rpi4-ncnn-fp32-1t", "stm32n6-npu-int8", "epyc-zen5-onnxruntime-fp32-1t")
NETWORKS = ("basic", "nested", "unet", "c2f", "vit")


@functools.cache
def deep(name):
    model, x = branched(name)
    return trace_network(model, (x,), depth=True)


def random_mask(network, seed):
    rng = np.random.default_rng(seed)
    return 0.2 + 0.75 * rng.random(network.n_atoms)


@pytest.mark.parametrize("name", sorted(BRANCHED))
def test_costs_with_closed_gates_are_those_of_the_compact_network(name):
    network = deep(name)
    for seed in (0,):
        keep = random_depth(network, 0.6, seed)
        again = trace_network(compact(network, keep, in_place=False).graph_module, network.example_inputs)
        for profile in map(dtp_edge.load_profile, PROFILES):
            one, anew = NetworkCost(network.layers, profile), NetworkCost(again.layers, profile)
            wanted = anew.evaluate(anew.dense_sizes())
            for form in (keep, network.settled(keep), network.opened(keep)):
                assert one.evaluate(network.layers.sizes(form.astype(float))) == pytest.approx(
                    wanted, rel=1e-9
                )


def test_what_is_forgotten_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs without some branches are remembered, as many as there is room for."""
    network = deep("resnet8")
    profile = dtp_edge.load_profile(PROFILES[0])
    keeps = [random_depth(network, 0.6, seed).astype(float) for seed in range(6)]
    all_of_them = NetworkCost(network.layers, profile)
    wanted = [all_of_them.evaluate(network.layers.sizes(keep)) for keep in keeps]
    monkeypatch.setattr("dtp_edge.cost.network_cost._MOST_LAYERS", 2 * len(network.layers.layers))
    few = NetworkCost(network.layers, profile)
    for keep, costs in [*zip(keeps, wanted, strict=True)] * 2:
        assert few.evaluate(network.layers.sizes(keep)) == costs
        assert len(few._reduced) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_costs_of_random_networks_are_those_of_the_compact_network(seed):
    network = trace_quickly(BranchedNetwork(200 + seed).eval(), dynamic_batch=True, depth=True)
    keep = random_depth(network, 0.6, seed)
    again = trace_network(compact(network, keep, in_place=False).graph_module, network.example_inputs)
    for profile in map(dtp_edge.load_profile, PROFILES):
        one, anew = NetworkCost(network.layers, profile), NetworkCost(again.layers, profile)
        found = one.evaluate(network.layers.sizes(keep.astype(float)))
        assert found == pytest.approx(anew.evaluate(anew.dense_sizes()), rel=1e-9)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", NETWORKS)
def test_open_gates_change_no_cost(name, profile):
    model, x = branched(name)
    plain, network = trace_network(model, (x,)), trace_network(model, (x,), depth=True)
    one, other = (NetworkCost(n.layers, dtp_edge.load_profile(profile)) for n in (plain, network))
    mask = random_mask(network, 0)
    mask[plain.n_atoms :] = 1.0
    here, there = network.layers.sizes(mask), plain.layers.sizes(mask[: plain.n_atoms])
    assert other.evaluate(here) == one.evaluate(there)
    assert other.by_layer(here) == one.by_layer(there)
    gradient = other.gradient(other.dense_sizes(), "latency_ms")[: len(plain.layers.widths)]
    np.testing.assert_allclose(gradient, one.gradient(one.dense_sizes(), "latency_ms"), rtol=1e-12)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", NETWORKS)
def test_marginal_prices_of_gates_are_finite_differences(name, profile):
    network = deep(name)
    cost = NetworkCost(network.layers, dtp_edge.load_profile(profile))
    mask = random_mask(network, 1)
    for metric in cost.metrics:
        sizes = network.layers.sizes(mask)
        found = network.layers.sizes_vjp(mask, cost.gradient(sizes, metric))
        for branch in network.branches:
            ends = []
            for step in (-1e-5, 1e-5):
                moved = mask.copy()
                moved[branch.atom] += step
                ends.append(cost.evaluate(network.layers.sizes(moved))[metric])
            slope = (ends[1] - ends[0]) / 2e-5
            assert found[branch.atom] == pytest.approx(slope, rel=1e-4, abs=1e-6 * max(ends)), metric


def test_nested_gates_multiply():
    """Latency and MACs of what is inside fall with the product, by hand from the rows of the layers."""
    network = deep("nested")
    cost = NetworkCost(network.layers, dtp_edge.load_profile("rpi4-ncnn-fp32-1t"))
    inner, outer = network.branches[:2]
    dense = {r.name: r for r in cost.by_layer(cost.dense_sizes())}
    mask = np.ones(network.n_atoms)
    mask[inner.atom], mask[outer.atom] = 0.5, 0.25
    for row in cost.by_layer(network.layers.sizes(mask)):
        share = 0.125 if row.name in inner.gone else 0.25 if row.name in outer.gone else 1.0
        assert row.latency_ms == pytest.approx(share * dense[row.name].latency_ms)
        assert row.macs == pytest.approx(share * dense[row.name].macs)
        assert row.params == pytest.approx(share * dense[row.name].params)
    total = cost.evaluate(network.layers.sizes(mask))
    rows = cost.by_layer(network.layers.sizes(mask))
    assert total["macs"] == pytest.approx(sum(r.macs for r in rows))
    assert total["params"] == pytest.approx(sum(r.params for r in rows))


@pytest.mark.parametrize("profile", PROFILES[:2])
@pytest.mark.parametrize("name", sorted(BRANCHED))
def test_every_cost_rises_with_every_mask(name, profile):
    network = deep(name)
    cost = NetworkCost(network.layers, dtp_edge.load_profile(profile))
    rng = np.random.default_rng(0)
    for number in range(12):
        low, high = np.sort(rng.random((2, network.n_atoms)), axis=0)
        if number % 2:  # gates alone
            low[: network.branches[0].atom] = high[: network.branches[0].atom]
        ends = [cost.evaluate(network.layers.sizes(m)) for m in (low, high)]
        for metric in cost.metrics:
            assert ends[0][metric] <= ends[1][metric] * (1 + 1e-9), metric


def test_a_closed_gate_has_the_price_of_its_branch():
    network = deep("basic")
    cost = NetworkCost(network.layers, dtp_edge.load_profile("rpi4-ncnn-fp32-1t"))
    mask = np.ones(network.n_atoms)
    mask[network.branches[0].atom] = 0.0
    sizes = network.layers.sizes(mask)
    price = network.layers.sizes_vjp(mask, cost.gradient(sizes, "macs"))[network.branches[0].atom]
    open_again = cost.evaluate(network.layers.sizes(np.ones(network.n_atoms)))["macs"]
    assert price == pytest.approx(open_again - cost.evaluate(sizes)["macs"])


def test_layers_behind_a_closed_gate_are_listed_as_gone():
    network = deep("nested")
    cost = NetworkCost(network.layers, dtp_edge.load_profile("rpi4-ncnn-fp32-1t"))
    mask = np.ones(network.n_atoms)
    mask[network.branches[1].atom] = 0.0
    rows = cost.by_layer(network.layers.sizes(mask))
    assert [r.name for r in rows] == [r.name for r in cost.by_layer(cost.dense_sizes())]
    gone = [r for r in rows if r.kernel == "gone"]
    assert {r.name for r in gone} == {
        x.name for x in network.layers.layers if x.name in network.branches[1].gone
    }
    assert {r.source for r in gone} == {"gone with body.0"}
    assert sum(r.latency_ms + r.macs + r.params for r in gone) == 0
