"""Channels brought to like ranges: the same function to the bit, and nothing where that cannot be."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge.graph import trace_network
from dtp_edge.int8.equalise import equalise
from dtp_edge.surgery import compact

OCTAVES = 6.0


def separable(between: type[nn.Module] = nn.ReLU, bias: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=bias),
        between(),
        nn.Conv2d(8, 16, 3, padding=1, groups=8),
        nn.MaxPool2d(2, padding=1),
        between(),
        nn.Conv2d(16, 12, 3, groups=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 9),
        between(),
        nn.Linear(9, 4),
    )


def traced(model: nn.Module, *shape: int):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            factor = torch.exp2(OCTAVES * (torch.rand(len(parameter), generator=generator) - 0.5))
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            parameter.mul_(factor.view(-1, *[1] * (parameter.ndim - 1)))
    network = trace_network(model.eval(), (torch.randn(2, *(shape or (3, 12, 12))),))
    return compact(network, np.ones(network.n_atoms, dtype=bool), in_place=False).graph_module.eval()


def apart(weight: torch.Tensor, dim: int) -> float:
    """How many times as large the widest channel is as the narrowest."""
    sizes = weight.detach().abs().amax(dim=[d for d in range(weight.ndim) if d != dim])
    return float(sizes.max() / sizes.min())


@pytest.mark.parametrize("between", [nn.ReLU, nn.LeakyReLU, nn.Identity])
@pytest.mark.parametrize("bias", [True, False])
def test_the_same_function_to_the_bit_with_like_ranges(between: type[nn.Module], bias: bool) -> None:
    module = traced(separable(between, bias))
    before, x = copy.deepcopy(module), torch.randn(5, 3, 12, 12)
    assert equalise(module, (x,)) == 4
    with torch.no_grad():
        assert torch.equal(module(x), before(x))
    rested = copy.deepcopy(module)
    was, now = (dict(m.named_parameters()) for m in (before, rested))
    assert apart(was["2.weight"], 0) > 8
    assert apart(now["2.weight"], 0) < 0.5 * apart(was["2.weight"], 0)
    assert equalise(module, (x,)) == 4  # at rest: nothing moves any more
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), now.values(), strict=True))


@pytest.mark.parametrize("between", [nn.ReLU6, nn.Sigmoid, nn.Hardswish])
def test_what_is_not_homogeneous_stops_it(between: type[nn.Module]) -> None:
    module = traced(separable(between))
    before, x = copy.deepcopy(module), torch.randn(5, 3, 12, 12)
    assert equalise(module, (x,)) == 1  # through the pool and the flattening alone
    with torch.no_grad():
        assert torch.equal(module(x), before(x))
    assert torch.equal(module.get_parameter("0.weight"), before.get_parameter("0.weight"))


class Read(nn.Module):
    """What stands between two convolutions where the channels of the first are not free."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x).relu()
        if self.kind == "twice":
            return self.b(y) + y
        if self.kind == "same weights":
            return self.a(self.b(y))
        if self.kind == "turned":
            return self.b(y.transpose(1, 2))
        return self.b(y + 1.0)


@pytest.mark.parametrize("kind", ["twice", "same weights", "turned", "shifted"])
def test_channels_that_others_read_stay(kind: str) -> None:
    module = traced(Read(kind), 4, 4, 4)
    before, x = copy.deepcopy(module), torch.randn(3, 4, 4, 4)
    assert equalise(module, (x,)) == 0
    with torch.no_grad():
        assert torch.equal(module(x), before(x))


def test_tokens_are_left_alone() -> None:
    module = traced(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)), 7, 6)
    assert equalise(module, (torch.randn(2, 7, 6),)) == 0


def test_dead_channels_stay_dead() -> None:
    module = traced(separable())
    with torch.no_grad():
        module.get_parameter("0.weight")[3] = 0.0
        module.get_parameter("2.weight")[8:10] = 0.0
    before, x = copy.deepcopy(module), torch.randn(5, 3, 12, 12)
    equalise(module, (x,))
    with torch.no_grad():
        assert torch.equal(module(x), before(x))
        assert torch.isfinite(module(x)).all()
