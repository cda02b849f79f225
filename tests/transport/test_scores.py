"""Starting scores against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge.cost import NetworkCost
from dtp_edge.errors import InputError
from dtp_edge.graph import masked_forward, trace_network
from dtp_edge.measure import load_profile
from dtp_edge.transport import initial_scores, prices
from dtp_edge.transport.scores import _sums_of_squares


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    for p in model.parameters():
        nn.init.normal_(p)
    return trace_network(model, (torch.randn(2, 6),))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(16, 6), torch.randint(0, 3, (16,))) for _ in range(3)]


@pytest.mark.parametrize("method", ["l2", "rms", "layer_l2", "taylor"])
def test_standardised(network, method: str) -> None:
    scores = initial_scores(network, method, batches())
    assert scores.shape == (network.n_atoms,)
    assert scores.mean() == pytest.approx(0, abs=1e-9)
    assert scores.std() == pytest.approx(1)


def test_l2_counts_all_that_goes_with_the_channel(network) -> None:
    first, norm, last = network.module[0], network.module[1], network.module[3]
    square = first.weight.square().sum(1) + first.bias.square() + norm.weight.square() + norm.bias.square()
    square = (square + last.weight.square().sum(0)).detach().double().numpy()
    expected = 0.5 * np.log(square)
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(initial_scores(network), expected, rtol=1e-5)


def test_taylor_ranks_as_finite_differences_do(network) -> None:
    """Removing a little of a channel changes the loss by its gradient."""
    network.module.eval()
    total = np.zeros(network.n_atoms)
    for x, y in batches():
        for i in range(network.n_atoms):
            values = []
            for h in (1e-3, -1e-3):
                mask = torch.ones(network.n_atoms, dtype=torch.float32)
                mask[i] += h
                logits = masked_forward(network, network.module, mask, (x,))
                values.append(nn.functional.cross_entropy(logits.double(), y))
            total[i] += abs(float((values[0] - values[1]).detach())) / 2e-3
    expected = np.log(total / 3)
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(initial_scores(network, "taylor", batches()), expected, atol=0.02)


def test_a_price_divides_the_importance(network) -> None:
    """With log-importances a and prices p the order is that of a knapsack: importance per price."""
    price = np.random.default_rng(0).uniform(0.1, 10, network.n_atoms)
    for method in ("l2", "rms", "layer_l2", "uniform"):
        plain, priced = initial_scores(network, method), initial_scores(network, method, price=price)
        assert priced.std() == pytest.approx(1)
        assert not np.array_equal(np.argsort(plain), np.argsort(priced))
    first, norm, last = network.module[0], network.module[1], network.module[3]
    square = first.weight.square().sum(1) + first.bias.square() + norm.weight.square() + norm.bias.square()
    worth = (square + last.weight.square().sum(0)).sqrt().detach().double().numpy() / price
    np.testing.assert_array_equal(np.argsort(worth), np.argsort(initial_scores(network, price=price)))


def test_prices_are_marginal_costs_over_the_limits() -> None:
    """Checked against differences of the cost; limits of memory and limits that are met do not count."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    net = trace_network(model, (torch.randn(1, 3, 16, 16),))
    cost = NetworkCost(net.layers, load_profile("rpi4-ncnn-fp32-1t"))
    dense = cost.evaluate(net.layers.sizes(np.ones(net.n_atoms)))
    price = prices(net, cost, {"macs": 0.5 * dense["macs"], "flash_bytes": 0.1 * dense["flash_bytes"]})
    for atom in range(net.n_atoms):
        mask = np.ones(net.n_atoms)
        mask[atom] = 0
        less = cost.evaluate(net.layers.sizes(mask))
        assert price[atom] == pytest.approx(2 * (1 - less["macs"] / dense["macs"]), rel=1e-3)
    for limits in ({"macs": dense["macs"]}, {"peak_ram_bytes": 0.5 * dense["peak_ram_bytes"]}):
        np.testing.assert_array_equal(prices(net, cost, limits), 1.0)


def test_the_network_is_left_as_it_was(network) -> None:
    network.module.train()
    before = {k: t.clone() for k, t in network.module.state_dict().items()}
    initial_scores(network, "taylor", batches())
    assert network.module.training
    assert all(torch.equal(t, before[k]) for k, t in network.module.state_dict().items())
    assert all(p.grad is None for p in network.module.parameters())


def test_refuses(network) -> None:
    with pytest.raises(InputError):
        initial_scores(network, "luck")
    with pytest.raises(InputError):
        initial_scores(network, "taylor")
    with pytest.raises(InputError):
        initial_scores(network, "taylor", [])
    weight = network.module[0].weight
    saved = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    with pytest.raises(InputError):
        initial_scores(network)
    with torch.no_grad():
        weight.copy_(saved)


@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (4, 0), (3, 1, 5), (300, 40, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_squares_are_those_of_the_whole_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.randn(shape, dtype=dtype)
    before = tensor.clone()
    sums = _sums_of_squares(tensor)
    squared = np.square(before.numpy().astype(np.float64))
    assert len(sums) == tensor.dim()
    for dim, part in enumerate(sums):
        other = tuple(d for d in range(tensor.dim()) if d != dim)
        np.testing.assert_allclose(part.numpy(), squared.sum(other), rtol=1e-12)
    assert torch.equal(tensor, before)
