"""Surgery on networks that nobody wrote: composed at random, with random weights, at random widths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.problems.keeps import random_keep
from benchmarks.problems.random_networks import IMAGE_BLOCKS, TOKEN_BLOCKS, RandomNetwork, trace_quickly
from dtp_edge.graph import MaskedNetwork, trace_network
from dtp_edge.graph.leaves import leaves, random_like
from dtp_edge.ops.refusal import Code
from dtp_edge.proof import check_masked_equals_compact
from dtp_edge.proof.equality import copied_network, randomise_tensors
from dtp_edge.surgery import compact
from dtp_edge.surgery.difference import relative_error


def plans(blocks, low, high):
    return st.lists(
        st.tuples(st.sampled_from(sorted(blocks)), st.integers(0, 999)), min_size=low, max_size=high
    )


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    image=plans(IMAGE_BLOCKS, 0, 2),
    tokens=plans(TOKEN_BLOCKS, 0, 1),
    seed=st.integers(0, 999),
    share=st.sampled_from([0.0, 0.3, 0.5, 0.8]),
)
def test_random_network_is_cut_exactly(image, tokens, seed, share):
    assert prove(RandomNetwork(image, tokens, seed), seed, share) <= 1e-9


@pytest.mark.parametrize("block", sorted(IMAGE_BLOCKS))
def test_each_image_block_between_convolutions(block):
    assert prove_in_place(RandomNetwork([("plain", 1), (block, 1), ("plain", 7)], [], 1)).passed


@pytest.mark.parametrize("block", sorted(TOKEN_BLOCKS))
def test_each_token_block_between_linears(block):
    assert prove_in_place(RandomNetwork([], [("linear", 1), (block, 1), ("mlp", 7)], 1)).passed


@pytest.mark.slow
@pytest.mark.parametrize("dynamic_batch", [False, True])
@pytest.mark.parametrize("block", sorted([*IMAGE_BLOCKS, *TOKEN_BLOCKS]))
def test_each_block_in_many_forms(block, dynamic_batch):
    for number in range(8):
        image = [("plain", number), (block, number), ("plain", 7)] if block in IMAGE_BLOCKS else []
        tokens = [("linear", number), (block, number), ("mlp", 7)] if block in TOKEN_BLOCKS else []
        assert prove(RandomNetwork(image, tokens, number), number, 0.5, dynamic_batch) <= 1e-9


def prove_in_place(model):
    """As the product does it: a free batch, the user's own module cut where it can be, float32."""
    network = trace_network(model.eval(), (torch.randn(2, 3, 4, 4),))
    randomise_tensors(network, 1)
    keep = random_keep(network, 0.5, 1)
    result = compact(network, keep)
    check = check_masked_equals_compact(network, keep, result, seeds=(0,))
    assert check.passed, check
    unknown = [f for f in network.frozen if f.code in (Code.NO_RULE, Code.NOT_COVERED, Code.FAULT)]
    assert network.groups
    assert not unknown, unknown
    return check


def prove(model, seed, share, dynamic_batch=False):
    """Return the relative error between masked and compact in float64, with every tensor random."""
    network = trace_quickly(model.eval(), dynamic_batch)
    assert network.groups or network.frozen, "nothing pruned and no reason given"
    randomise_tensors(network, seed)
    network = copied_network(network, dtype=torch.float64)
    keep = random_keep(network, share, seed)
    result = compact(network, keep, in_place=False)
    inputs = random_like(network.example_inputs, seed, torch.float64)
    with torch.no_grad():
        masked = leaves(MaskedNetwork(network, keep).eval()(*inputs))
        return relative_error(masked, leaves(result.graph_module(*inputs)))
