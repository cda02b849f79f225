"""Measured rises: against the loss of a network that really lacks the branch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dtp_edge.cost import NetworkCost
from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.transport.branch_losses import greedy_removals, losses_of, measured
from dtp_edge.transport.known_losses import KnownLosses
from dtp_edge.transport.meter import Meter
from dtp_edge.transport.scores import importance, initial_scores


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.a = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1)
        )
        self.b = nn.Sequential(
            nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 1)
        )
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.a(x)
        x = x + self.b(x)
        return self.head(self.norm(x).mean((2, 3)))


@pytest.fixture
def world() -> tuple[Net, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    net = Net()
    for p in net.parameters():
        nn.init.normal_(p, std=0.5)
    batches = [(torch.randn(16, 1, 6, 6) + 0.5, torch.randint(0, 5, (16,))) for _ in range(2)]
    return net.eval(), batches


def without(net: Net, name: str) -> Net:
    found = copy.deepcopy(net)
    nn.init.zeros_(getattr(found, name)[3].weight)
    nn.init.zeros_(getattr(found, name)[3].bias)
    return found


def true_loss(net: Net, batches: list[tuple[Tensor, Tensor]]) -> float:
    """With the statistics of each batch, as a cut network's would be re-estimated."""
    with torch.no_grad():
        return float(
            np.mean(
                [float(nn.functional.cross_entropy(copy.deepcopy(net).train()(x), y)) for x, y in batches]
            )
        )


def test_rise_is_that_of_a_network_without_the_branch(world) -> None:  # type: ignore[no-untyped-def]
    net, batches = world
    network = trace_network(net, (batches[0][0],), depth=True)
    state = copy.deepcopy(net.state_dict())
    found = measured(network, np.ones(network.n_atoms), batches)
    base = true_loss(net, batches)
    names = [branch.name for branch in network.branches]
    assert sorted(names) == ["a", "b"]
    for branch in network.branches:
        rise = true_loss(without(net, branch.name), batches) - base
        assert found[branch.atom] == pytest.approx(max(rise, 1e-3 * found.max()), rel=1e-3, abs=1e-3)
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert not net.training


def test_channels_are_scaled_to_what_half_of_them_costs(world) -> None:  # type: ignore[no-untyped-def]
    net, batches = world
    network = trace_network(net, (batches[0][0],), depth=True)
    terms = np.random.default_rng(0).uniform(0.01, 0.2, network.n_atoms)
    found = measured(network, terms, batches)
    for group in network.groups:
        if group.kind == "branch":
            continue
        own = terms[group.start : group.stop]
        low = group.start + np.argsort(own, kind="stable")[: len(own) // 2]
        mask = np.ones((2, network.n_atoms))
        mask[1, low] = 0
        rise = float(np.diff(losses_of(network, mask, batches))[0])
        factor = np.clip(rise / terms[low].sum(), 1 / 8, 8)
        np.testing.assert_allclose(found[group.start : group.stop], own * factor, rtol=1e-6)


def test_without_labels_it_is_how_far_the_output_moves(world) -> None:  # type: ignore[no-untyped-def]
    net, batches = world
    network = trace_network(net, (batches[0][0],), depth=True)
    masks = np.ones((3, network.n_atoms))
    masks[1, network.branches[0].atom] = 0
    found = losses_of(network, masks, [x for x, _ in batches])
    assert found[1] > 0
    assert found[2] == 0


def test_a_loss_that_is_not_finite_is_refused(world) -> None:  # type: ignore[no-untyped-def]
    net, batches = world
    network = trace_network(net, (batches[0][0],), depth=True)
    with pytest.raises(InputError, match="finite"):
        losses_of(network, np.ones((1, network.n_atoms)), batches, lambda out, y: out.sum() * torch.inf)
    with pytest.raises(InputError, match="no batch"):
        losses_of(network, np.ones((1, network.n_atoms)), [])


def test_scores_know_gates_with_and_without_batches(world) -> None:  # type: ignore[no-untyped-def]
    net, batches = world
    network = trace_network(net, (batches[0][0],), depth=True)
    worth = importance(network, "taylor", batches)
    gate = network.branches[0].atom
    other = worth.copy()
    other[gate] *= 100
    assert np.argsort(worth).tolist() != np.argsort(other).tolist() or worth[gate] == worth.max()
    norms = importance(network, "l2")
    weights = [
        net.get_parameter(n) for n in network.branches[0].parameters if n in dict(net.named_parameters())
    ]
    total = sum(float(w.detach().double().square().sum()) for w in weights)
    assert norms[gate] == pytest.approx(total**0.5)
    assert initial_scores(network, "l2").shape == (network.n_atoms,)


def test_greedy_removal_is_measured_anew_after_each(world) -> None:  # type: ignore[no-untyped-def]
    net, batches = world
    network = trace_network(net, (batches[0][0],), depth=True)
    profile = load_profile("rpi4-ncnn-fp32-1t")
    cost = NetworkCost(network.layers, profile)
    dense = cost.evaluate(cost.dense_sizes())
    names = [branch.name for branch in network.branches]
    base = {name: true_loss(without(net, name), batches) for name in names}
    first = min(base, key=lambda name: base[name])
    (one,) = greedy_removals(network, Meter(network, cost, {"macs": 0.999 * dense["macs"]}), batches)
    assert [names[i] for i in np.flatnonzero(one == 0)] == [first]
    path = greedy_removals(network, Meter(network, cost, {"macs": 0.05 * dense["macs"]}), batches)
    assert [int(p.sum()) for p in path] == [1, 0]
    assert greedy_removals(network, Meter(network, cost, {"macs": dense["macs"]}), batches) == []


def test_without_labels_the_branch_that_moves_the_outputs_least_goes_first(world) -> None:  # type: ignore[no-untyped-def]
    net, batches = world
    network = trace_network(net, (batches[0][0],), depth=True)
    inputs = [x for x, _ in batches]
    masks = np.ones((3, network.n_atoms))
    for i, branch in enumerate(network.branches):
        masks[1 + i, branch.atom] = 0
    moved = losses_of(network, masks, inputs)[1:]
    cost = NetworkCost(network.layers, load_profile("rpi4-ncnn-fp32-1t"))
    meter = Meter(network, cost, {"macs": 0.999 * cost.evaluate(cost.dense_sizes())["macs"]})
    (one,) = greedy_removals(network, meter, inputs)
    assert np.flatnonzero(one == 0).tolist() == [int(np.argmin(moved))]
    with torch.no_grad():  # now the other one moves them least
        for name in "ab":
            last = getattr(net, name)[3]
            last.weight *= 0.01 if one[ord(name) - ord("a")] else 1.0
            last.bias *= 0.01 if one[ord(name) - ord("a")] else 1.0
    network = trace_network(net, (batches[0][0],), depth=True)
    (other,) = greedy_removals(network, meter, inputs)
    assert other.tolist() != one.tolist()


def test_losses_that_are_known_are_not_measured_again(world) -> None:  # type: ignore[no-untyped-def]
    net, batches = world
    network = trace_network(net, (batches[0][0],), depth=True)
    cost = NetworkCost(network.layers, load_profile("rpi4-ncnn-fp32-1t"))
    dense, known, calls = cost.evaluate(cost.dense_sizes()), KnownLosses(), []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        return nn.functional.cross_entropy(output, target)

    tight = Meter(network, cost, {"macs": 0.05 * dense["macs"]})
    path = greedy_removals(network, tight, batches, loss, known)
    assert calls
    calls.clear()
    for share in (0.05, 0.999):  # another budget, or another device, goes the same way
        meter = Meter(network, cost, {"macs": share * dense["macs"]})
        again = greedy_removals(network, meter, batches, loss, known)
        assert [p.tolist() for p in again] == [p.tolist() for p in path[: len(again)]]
    assert calls == []
