"""The user's own module cut in place: attributes, or the reason why only the graph can be had."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.graph_structures import randomise
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.problems.keeps import random_keep
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.surgery import compact


class Known(nn.Module):
    """One of each class whose attributes name a width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.hidden, self.layer_norm, self.out = nn.Linear(6, 10), nn.LayerNorm(10), nn.Linear(10, 4)
        self.drop = nn.Dropout(0.3)  # draws numbers in the trial

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.depthwise(self.drop(self.act(self.norm(self.conv(x))))))
        return self.out(torch.sigmoid(self.layer_norm(self.hidden(y.mean((2, 3))))))


def traced(model: nn.Module, x: Tensor) -> tuple[PrunableNetwork, np.ndarray]:
    network = trace_network(randomise(model.eval()), x)
    return network, random_keep(network, 0.5, 0)


def test_attributes_say_what_the_tensors_are() -> None:
    network, keep = traced(Known(), torch.randn(2, 3, 6, 6))
    result = compact(network, keep)
    assert (result.kind, result.reason) == ("module", None)
    cut = result.module
    assert isinstance(cut, Known)
    width = cut.conv.weight.shape[0]
    assert 1 <= width < 8
    assert (cut.conv.out_channels, cut.norm.num_features, cut.act.num_parameters) == (width, width, width)
    assert (cut.depthwise.groups, cut.depthwise.in_channels, cut.depthwise.out_channels) == (width,) * 3
    assert (cut.up.in_channels, cut.up.out_channels) == tuple(cut.up.weight.shape[:2])
    assert cut.up.in_channels == width
    assert (cut.hidden.out_features, cut.hidden.in_features) == tuple(cut.hidden.weight.shape)
    assert cut.layer_norm.normalized_shape == (cut.hidden.out_features,)
    assert (cut.out.out_features, cut.out.in_features) == (4, cut.hidden.out_features)


def test_the_module_that_was_given_stays_as_it_was() -> None:
    model = Known()
    network, keep = traced(model, torch.randn(2, 3, 6, 6))
    before = {n: t.detach().clone() for n, t in model.state_dict().items()}
    x = torch.get_rng_state()
    compact(network, keep)
    assert torch.equal(torch.get_rng_state(), x)
    assert (model.conv.out_channels, model.depthwise.groups) == (8, 8)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_statistics_are_left_alone_by_the_trial_in_train_mode() -> None:
    model = Known()
    network, keep = traced(model, torch.randn(2, 3, 6, 6))
    cut = compact(network, keep).module
    assert isinstance(cut, Known)
    kept = keep[[g.start + i for g in network.groups if "conv" in g.name for i in range(8)]]
    assert model.norm.running_mean is not None
    assert cut.norm.running_mean is not None
    assert torch.equal(cut.norm.running_mean, model.norm.running_mean[torch.from_numpy(kept)])
    assert not cut.training


class Attention(nn.Module):
    """Heads counted by attributes, as timm's are."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = 4, 3, 12
        self.qkv, self.proj = nn.Linear(7, 36), nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], scale=0.5)
        return self.proj(y.transpose(1, 2).reshape(b, n, self.attn_dim))


def test_the_count_of_heads_follows() -> None:
    network, _ = traced(Attention(), torch.randn(2, 5, 7))
    (heads,) = [g for g in network.groups if g.kind == "heads"]
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[heads.start + 1] = False
    result = compact(network, keep)
    assert result.kind == "module", result.reason
    cut = result.module
    assert isinstance(cut, Attention)
    assert (cut.num_heads, cut.head_dim, cut.attn_dim) == (3, 3, 9)
    assert cut.qkv.out_features == 27


class Written(nn.Module):
    """The width is written into the source: no attribute changes it."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.a, self.b, self.wrong = nn.Linear(5, 8), nn.Linear(8, 3), wrong

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.wrong:  # runs with any width, and means another thing
            return self.b(torch.sigmoid(y) * (self.a.out_features / 8))
        return self.b(torch.sigmoid(y.reshape(-1, 2, 4)).reshape(-1, 8))


@pytest.mark.parametrize(("wrong", "why"), [(False, "does not run"), (True, "computes another function")])
def test_a_module_that_cannot_be_cut_gives_the_graph_and_says_why(wrong: bool, why: str) -> None:
    network, keep = traced(Written(wrong), torch.randn(2, 5))
    result = compact(network, keep)
    assert result.kind == "graph"
    assert result.module is result.graph_module
    assert result.reason is not None
    assert why in result.reason
