"""Weights that are computed from parameters: the layer is pruned, or named with what hinders it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers.keeps import random_keep
from torch import Tensor, nn
from torch.nn.utils import prune

from dtp_edge.graph import MaskedNetwork, trace_network
from dtp_edge.proof.equality import randomise_tensors
from dtp_edge.surgery import compact
from dtp_edge.surgery.difference import relative_error


class Quantised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        scale = torch.full((self.out_channels,), 0.01)
        zero = torch.zeros(self.out_channels, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(self.weight, scale, zero, 0, -127, 127)
        return F.conv2d(x, weight, self.bias, padding=self.padding, groups=self.groups)  # type: ignore[arg-type]


class Summed(nn.Conv2d):
    """Its weight goes through an operator that nothing labels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, torch.cumsum(self.weight, 1), self.bias)


class Steps(nn.Module):
    """A recurrent cell that Python code runs over time."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.cell = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[kind](7, 12)
        self.last, self.kind = nn.Linear(12, 4), kind

    def forward(self, frames: Tensor) -> Tensor:
        h = frames.new_zeros(frames.shape[0], 12)
        c = h
        for t in range(3):
            x = torch.relu(self.first(frames[:, t]))
            if self.kind == "lstm":
                h, c = self.cell(x, (h, c))
            else:
                h = self.cell(x, h)
        return self.last(h)


def _between(layer: type[nn.Conv2d]) -> nn.Sequential:
    first, second = layer(3, 16, 3), layer(16, 12, 3)
    return nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))


def _pruned() -> nn.Sequential:
    model = _between(nn.Conv2d)
    for index in (0, 2):
        prune.l1_unstructured(model[index], "weight", 0.5)
        prune.random_unstructured(model[index], "bias", 0.3)
    return model


IMAGE, FRAMES = torch.randn(2, 3, 12, 12), torch.randn(2, 3, 5)
NETWORKS = {
    "prune masks": (_pruned, IMAGE, {"0", "2"}),
    "fake quantisation": (lambda: _between(Quantised), IMAGE, {"0", "2"}),
    "LSTM cell": (lambda: Steps("lstm"), FRAMES, {"first", "cell"}),
    "GRU cell": (lambda: Steps("gru"), FRAMES, {"first", "cell"}),
    "RNN cell": (lambda: Steps("rnn"), FRAMES, {"first", "cell"}),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_layer_with_a_computed_weight_is_pruned(name: str) -> None:
    make, x, layers = NETWORKS[name]
    torch.manual_seed(0)
    network = trace_network(make().eval(), x)
    owners = {member[0].rpartition(".")[0] for g in network.groups for member in g.members}
    assert layers <= owners, network.frozen
    assert [f.code for f in network.frozen] == ["output"]
    if name != "prune masks":  # its masks are 0 and 1
        randomise_tensors(network, 1)
    for seed in range(2):
        keep = random_keep(network, 0.5, seed)
        result = compact(network, keep, in_place=False)
        y = torch.randn_like(x)
        with torch.no_grad():
            masked = MaskedNetwork(network, keep).eval()(y)
            assert relative_error([masked], [result.graph_module(y)]) < 1e-5
        assert result.kept


def test_a_parameter_in_an_operator_without_a_rule_is_named_by_its_layer() -> None:
    network = trace_network(_between(Summed).eval(), IMAGE)
    named = {f.name: f for f in network.frozen}
    assert {"0", "2"} <= set(named)
    assert named["0"].code == "no-rule"
    assert "cumsum" in named["0"].text
