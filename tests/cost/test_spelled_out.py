"""An activation that a file spells out costs what the activation does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.cost import NetworkCost
from dtp_edge.cost.kernels import lower
from dtp_edge.graph import trace_network
from dtp_edge.profiles.profile import Fusion

X = torch.randn(1, 3, 16, 16)


class Net(nn.Module):
    def __init__(self, activation) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.LazyConv2d(8, 1)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.activation(self.first(x)))


def silu(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * x


def gelu(x: Tensor) -> Tensor:
    return x * (torch.erf(x / 1.4142135) + 1.0) * 0.5


def graph(activation):
    network = Net(activation).eval()
    network(X)  # the second convolution's inputs are what the activation leaves
    return trace_network(network, (X,)).layers


PAIRS = [(silu, nn.functional.silu), (gelu, nn.functional.gelu)]


@pytest.mark.parametrize(("spelt", "whole"), PAIRS)
@pytest.mark.parametrize("device", ["rpi4-ncnn-fp32-1t", "rpi4-tflite-fp32", "epyc-zen5-onnxruntime-fp32-1t"])
def test_both_cost_the_same(spelt, whole, device):
    profile = dtp.load_profile(device)
    costs = [NetworkCost(graph(activation), profile) for activation in (spelt, whole)]
    found = [cost.evaluate(cost.dense_sizes()) for cost in costs]
    assert found[0] == pytest.approx(found[1])
    less = [np.where(cost.dense_sizes() == 16, 7.0, cost.dense_sizes()) for cost in costs]
    found = [cost.evaluate(sizes) for cost, sizes in zip(costs, less, strict=True)]
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize(("spelt", "whole"), PAIRS)
@pytest.mark.parametrize("folded", [True, False])
def test_it_is_one_kernel_or_inside_the_convolution(spelt, whole, folded):
    name = whole.__name__
    fusion = Fusion(activations=(name,) if folded else ())
    kernels = lower(graph(spelt), fusion).kernels
    assert [k.op for k in kernels] == ["conv2d", *([] if folded else [name]), "conv2d"]
    named = [layer.name for k in kernels for layer in k.layers]
    assert sorted(named) == sorted(layer.name for layer in graph(spelt).layers)
    assert kernels[0].fused == ([name] if folded else [])


def gate(x: Tensor) -> Tensor:  # squeeze and excitation: the product is with another tensor
    return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


def read_twice(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return x * s + s


def other_product(x: Tensor) -> Tensor:
    return (x + 1.0) * (torch.erf(x / 1.4142135) + 1.0) * 0.5


def no_product(x: Tensor) -> Tensor:
    return 3.0 * (torch.erf(x / 1.4142135) + 1.0) * 0.5


@pytest.mark.parametrize("other", [gate, read_twice, other_product, no_product])
def test_what_only_looks_like_one_stays(other):
    ops = {k.op for k in lower(graph(other), Fusion()).kernels}
    assert not ops & {"silu", "gelu"}


def test_a_slice_that_takes_all_is_free():
    """GhostNet slices off channels that are not there; exporters and runtimes drop that."""
    costs = []
    for stop in (16, 12, None):
        layers = graph(nn.ReLU() if stop is None else lambda x, stop=stop: torch.relu(x)[:, :stop])
        fusion = Fusion(activations=("relu",))
        costs.append([kernel.family for kernel in lower(layers, fusion).kernels])
    assert costs[0] == costs[2]
    assert "layout" in costs[1]
