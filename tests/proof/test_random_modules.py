"""Modules that nobody wrote: their traces pass the first proof, and traces wrong in one operator do not."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import torch
from helpers.mutations import copied_graph, mutations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import fx, nn

from benchmarks.problems.random_networks import IMAGE_BLOCKS, TOKEN_BLOCKS, RandomNetwork, trace_quickly
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import call, leaves
from dtp_edge.proof import check_traced_equals_own
from dtp_edge.proof.equality import copied_network, randomise_tensors

FEW = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=300)
SEEN = 1e-3  # of an output's scale: a fault of this size must be seen, one of less may pass as rounding


def plans(blocks: Any, low: int, high: int) -> Any:
    choices = st.tuples(st.sampled_from(sorted(blocks)), st.integers(0, 999))
    return st.lists(choices, min_size=low, max_size=high)


MODULES = {
    "image": plans(IMAGE_BLOCKS, 0, 2),
    "tokens": plans(TOKEN_BLOCKS, 0, 2),
    "seed": st.integers(0, 999),
}


def made(
    image: Any, tokens: Any, seed: int, *, free_batch: bool = False
) -> tuple[nn.Module, PrunableNetwork]:
    """Return a random module, every weight and statistic of it random, and its trace."""
    model = RandomNetwork(image, tokens, seed).eval()
    network = trace_quickly(model, free_batch)
    randomise_tensors(network, seed)
    return model, network


def apart(one: fx.GraphModule, other: fx.GraphModule, shape: Any) -> float:
    """Return by how much of its scale the output of two graphs differs in float64; infinite if one raises."""
    worst = 0.0
    for seed in range(50, 54):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        try:
            a, b = (leaves(call(graph, (x,)))[0] for graph in (one, other))
        except Exception:  # a graph that does not run at all
            return float("inf")
        if a.shape != b.shape or not b.isfinite().all():
            return float("inf")
        worst = max(worst, float((a - b).abs().max() / a.abs().max()))
    return worst


def survivors(model: nn.Module, network: PrunableNetwork, seed: int, most: int) -> tuple[list[str], int]:
    """Return the wrong graphs that the proof lets through, and how many were wrong at all."""
    r = random.Random(seed)
    found, wrong = [], 0
    double = copied_network(network, dtype=torch.float64).graph_module
    names = [name for name, _ in mutations(network.graph_module.graph, random.Random(seed))]
    for number in sorted(r.sample(range(len(names)), min(most, len(names)))):
        graph = copied_graph(network.graph_module)
        name, mutate = list(mutations(graph.graph, random.Random(seed)))[number]
        mutate()
        graph.recompile()
        mutant = dataclasses.replace(network, graph_module=graph)
        exact = copied_network(mutant, dtype=torch.float64).graph_module
        if apart(double, exact, network.example_inputs[0].shape) < SEEN:
            continue  # the same function, or one that hardly differs
        wrong += 1
        if check_traced_equals_own(model, mutant).passed:
            found.append(name)
    return found, wrong


def prove(image: Any, tokens: Any, seed: int, most: int, free_batch: bool = False) -> int:
    model, network = made(image, tokens, seed, free_batch=free_batch)
    check = check_traced_equals_own(model, network)
    assert check.passed, check
    found, wrong = survivors(model, network, seed, most)
    assert not found, f"{found} of {wrong} wrong graphs pass"
    return wrong


@FEW
@given(**MODULES)
def test_the_trace_of_a_random_module_passes_and_a_wrong_one_does_not(
    image: Any, tokens: Any, seed: int
) -> None:
    assert prove(image, tokens, seed, 4) > 0


@pytest.mark.slow
@MANY
@given(**MODULES)
def test_many_random_modules_with_a_free_batch(image: Any, tokens: Any, seed: int) -> None:
    assert prove(image, tokens, seed, 12, free_batch=True) > 0
