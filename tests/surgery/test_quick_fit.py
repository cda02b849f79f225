"""A fit is left and taken up behind whatever a graph's node makes: a tensor, several of them, a size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.surgery import compact
from dtp_edge.surgery.beginnings import stops_of
from dtp_edge.surgery.quick_fit import QuickFit


class Net(nn.Module):
    """The size that is read first is alone before the first layer, both halves before the second."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(6, 10, 3, padding=1)
        self.c, self.last = nn.Conv2d(10, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        images = x.shape[0]
        one, two = (torch.relu(self.a(x)) * torch.full((images, 1, 1, 1), 0.5)).chunk(2, 1)
        y = torch.relu(self.c(torch.relu(self.b(one)))) * two.mean((1, 2, 3), keepdim=True)
        return self.last(y.mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> PrunableNetwork:
    torch.manual_seed(0)
    return trace_network(Net(), (torch.randn(2, 3, 4, 4),))


def test_a_size_and_a_split_are_stops(network: PrunableNetwork) -> None:
    nodes = {n.name: n for n in network.graph_module.graph.nodes}
    stops = [str(nodes[name].target) for name in stops_of(network.graph_module.graph)]
    assert any("sym_size" in name for name in stops)
    assert any("split" in name or "chunk" in name for name in stops)


def test_a_fit_taken_up_behind_them_is_the_whole_one(network: PrunableNetwork) -> None:
    x = torch.randn(48, 3, 4, 4)
    lead = np.ones(network.n_atoms, dtype=bool)
    plain, led = (QuickFit(network, [(x[:32],)], [(x[32:],)], ridge=0.01) for _ in range(2))
    led.lead(compact(network, lead, in_place=False))
    shares = []
    for group in network.groups:
        keep = lead.copy()
        keep[group.start] = False
        one, other = (compact(network, keep, in_place=False) for _ in range(2))
        shares.append(led.share(other))
        assert torch.equal(plain(one)[0], led(other)[0])
    assert min(shares) < 0.8  # one of them was taken up
