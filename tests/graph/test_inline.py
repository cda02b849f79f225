"""Regions under no_grad and disabled autocast are opened; what they compute does not change."""

from __future__ import annotations

import torch
from torch import nn

from dtp_edge.graph import trace_network


class Regions(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        y = self.a(x)
        with torch.no_grad():
            scale = y.abs().mean(0, keepdim=True) + 1
        with torch.autocast("cpu", enabled=False):
            y = y.float() * scale
        return self.b(y.relu())


def test_regions_are_opened_and_their_channels_prunable():
    model = Regions().eval()
    x = torch.randn(4, 6)
    network = trace_network(model, (x,))
    targets = [str(n.target) for n in network.graph_module.graph.nodes]
    assert not any("wrap_with" in t for t in targets)
    assert torch.allclose(network.graph_module(x), model(x), atol=1e-6)
    assert [g.total for g in network.groups] == [8]
