"""Surgery on networks that nobody wrote: composed at random, with random weights, at random widths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keeps import random_keep
from random_networks import IMAGE_BLOCKS, TOKEN_BLOCKS, RandomNetwork

from dtp_edge.export import check_masked_equals_compact, compact
from dtp_edge.export.equality import randomise_tensors
from dtp_edge.graph import trace_network


def plans(blocks, low, high):
    return st.lists(
        st.tuples(st.sampled_from(sorted(blocks)), st.integers(0, 999)), min_size=low, max_size=high
    )


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    image=plans(IMAGE_BLOCKS, 1, 4),
    tokens=plans(TOKEN_BLOCKS, 0, 2),
    seed=st.integers(0, 999),
    share=st.sampled_from([0.0, 0.3, 0.5, 0.8]),
)
def test_random_network_is_cut_exactly(image, tokens, seed, share):
    prove(RandomNetwork(image, tokens, seed), seed, share)


@pytest.mark.parametrize("block", sorted(IMAGE_BLOCKS))
def test_each_image_block_between_convolutions(block):
    for number in range(2):
        network = prove(
            RandomNetwork([("plain", number), (block, number), ("plain", 7)], [], number), number, 0.5
        )
        assert network.groups


@pytest.mark.parametrize("block", sorted(TOKEN_BLOCKS))
def test_each_token_block_between_linears(block):
    for number in range(2):
        prove(RandomNetwork([], [("linear", number), (block, number), ("mlp", 7)], number), number, 0.5)


def prove(model, seed, share):
    network = trace_network(model.eval(), (torch.randn(2, 3, 4, 4),))
    randomise_tensors(network, seed)
    keep = random_keep(network, share, seed)
    result = compact(network, keep)
    check = check_masked_equals_compact(network, keep, result, seeds=(0,), dtype=torch.float64)
    assert check.passed, check
    single = check_masked_equals_compact(network, keep, result, seeds=(0,))
    assert single.passed, single
    return network
