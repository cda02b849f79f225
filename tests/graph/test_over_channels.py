"""Statistics over channels run over what is kept: attention by CBAM, standardised styles, extremes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.keeps import random_keep
from torch import Tensor, nn

from dtp_edge.graph import MaskedNetwork, masked_forward, trace_network
from dtp_edge.proof.equality import copied_network, randomise_tensors
from dtp_edge.surgery import compact
from dtp_edge.surgery.difference import relative_error


def _spatial(y: Tensor) -> Tensor:
    """CBAM's: the mean and the largest over the channels, a map of each."""
    return torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True)[0]], 1)


OVER: dict[str, Callable[[Tensor], Tensor]] = {
    "cbam": _spatial,
    "mean": lambda y: y.mean(1, keepdim=True),
    "sum": lambda y: y.sum(1, keepdim=True),
    "amax": lambda y: y.amax(1, keepdim=True),
    "amin": lambda y: y.amin((1, 2), keepdim=True).expand(-1, -1, 8, 8),
    "min": lambda y: torch.min(y, 1, keepdim=True)[0],
    "var": lambda y: y.var(1, keepdim=True),
    "std": lambda y: y.std(1, keepdim=True, correction=0),
    "both": lambda y: torch.cat(torch.var_mean(y, 1, keepdim=True), 1),
    "prod": lambda y: torch.prod(torch.tanh(y) + 1.1, 1, keepdim=True),
    "logsumexp": lambda y: torch.logsumexp(y, 1, keepdim=True),
    "norm of one": lambda y: torch.linalg.vector_norm(y, 1, dim=1, keepdim=True),
}


class Gated(nn.Module):
    """Channel attention, then a map made of statistics over channels, each on what the other needs."""

    def __init__(self, over: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.over = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 10, 3, padding=1), over
        self.squeeze, self.excite = nn.Linear(12, 4), nn.Linear(4, 12)
        maps = over(torch.randn(1, 12, 8, 8)).shape[1]
        self.map, self.head = nn.Conv2d(maps, 1, 3, padding=1), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        pooled = y.mean((2, 3)) + F.adaptive_max_pool2d(y, 1).flatten(1)
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(pooled))))[:, :, None, None]
        y = y * torch.sigmoid(self.map(self.over(y)))
        return self.head(F.relu(self.b(y)).mean((2, 3)))


@pytest.mark.parametrize("name", sorted(OVER))
def test_a_statistic_over_channels_is_that_of_the_compact_network(name: str) -> None:
    network = trace_network(Gated(OVER[name]).eval(), torch.randn(2, 3, 8, 8))
    cut = {member for g in network.groups for member in g.members}
    assert {("a.weight", 0), ("b.weight", 0), ("squeeze.weight", 0)} <= cut, network.frozen
    randomise_tensors(network, 1)
    network = copied_network(network, dtype=torch.float64)
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    for seed in range(3):
        keep = random_keep(network, 0.5, seed)
        result = compact(network, keep, in_place=False)
        with torch.no_grad():
            masked = MaskedNetwork(network, keep).eval()(x)
            assert relative_error([masked], [result.graph_module(x)]) <= 1e-9


def test_soft_masks_have_a_gradient_through_an_extreme() -> None:
    network = trace_network(Gated(OVER["amax"]).eval(), torch.randn(2, 3, 8, 8))
    network = copied_network(network, dtype=torch.float64)
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    mask = torch.full((network.n_atoms,), 0.7, dtype=torch.float64, requires_grad=True)

    def loss(m: Tensor) -> Tensor:
        return masked_forward(network, None, m, (x,)).square().sum()

    loss(mask).backward()
    assert mask.grad is not None
    for atom in range(0, network.n_atoms, 5):
        step = torch.zeros_like(mask)
        step[atom] = 1e-5
        with torch.no_grad():
            slope = (loss(mask + step) - loss(mask - step)) / 2e-5
        assert abs(slope - mask.grad[atom]) <= 1e-4 * max(1.0, abs(slope))


def test_where_the_largest_lies_keeps_every_channel() -> None:
    class Place(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 12, 3), nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            values, places = self.a(x).max(1, keepdim=True)
            return self.b(values * places)

    network = trace_network(Place().eval(), torch.randn(1, 3, 8, 8))
    found = next(f for f in network.frozen if f.name == "a")
    assert found.code == "over-channels"
