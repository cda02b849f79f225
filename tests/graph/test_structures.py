"""Every structure: labels that hold under a mask, groups where they are possible, reasons elsewhere."""

from __future__ import annotations

import helpers.more_structures  # noqa: F401  (adds structures)
import pytest
import torch
from helpers.graph_structures import STRUCTURES, build
from helpers.invariance import errors, random_keep

from dtp_edge.graph import trace_network

NAMES = sorted(STRUCTURES)


@pytest.mark.parametrize("name", NAMES)
def test_masked_network_does_not_read_what_was_dropped(name: str) -> None:
    model, x = build(name)
    network = trace_network(model, x)
    assert bool(network.groups) == STRUCTURES[name].prunes, network.frozen
    for seed in range(3):
        same, spoiled, moved = errors(network, (x,), random_keep(network, 0.5, seed))
        assert same < 1e-12
        assert spoiled < 1e-12
        assert moved > 1e-9 or not network.groups


@pytest.mark.parametrize("name", NAMES)
def test_groups_partition_the_atoms(name: str) -> None:
    model, x = build(name)
    network = trace_network(model, x)
    stop = 0
    for group in network.groups:
        assert group.start == stop
        assert group.stop - group.start >= 2
        assert group.members
        stop = group.stop
    assert stop == network.n_atoms
    assert len({g.name for g in network.groups}) == len(network.groups)


def test_mode_and_weights_are_left_alone() -> None:
    model, x = build("Residual")
    model.train()
    model.stem[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trace_network(model, x)
    assert model.training
    assert not model.stem[1].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
