"""A graph that rounds as its int8 file does: steps, ranges, gradients, and which layer hurts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge.graph import trace_network
from dtp_edge.int8.rounding import RoundedValue, RoundedWeight, plain, rounded, see, sensitivity
from dtp_edge.surgery import compact
from dtp_edge.surgery.norm_folding import fold_norms


def graph(seed: int = 0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU6(),
        nn.Flatten(),
    )
    model.append(nn.Linear(8 * 16, 5))
    network = trace_network(model.eval(), (torch.randn(2, 3, 8, 8),))
    module = compact(network, np.ones(network.n_atoms, dtype=bool), in_place=False).graph_module
    assert fold_norms(module) == 1
    return module.eval()


@pytest.mark.parametrize("same_bits", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_lie_on_256_steps(per_channel: bool, same_bits: bool) -> None:
    weight = torch.randn(6, 4, 3, 3) * torch.logspace(-2, 1, 6).view(-1, 1, 1, 1)
    found = RoundedWeight(per_channel, same_bits)(weight)
    parts = found if per_channel else [found]
    for part in parts:
        levels = part.unique()
        step = levels.diff().min()
        whole = levels / step
        assert torch.allclose(whole, whole.round(), atol=1e-2)
        assert float(whole.abs().max()) <= 127.01
        if same_bits:
            assert float(torch.log2(step)) == pytest.approx(round(float(torch.log2(step))), abs=1e-4)
    worst = (found - weight).abs().amax(dim=(1, 2, 3)) / weight.abs().amax(dim=(1, 2, 3))
    assert (
        float(worst.max()) < 0.02
    ) == per_channel  # one step a tensor is too coarse for the smallest channel


def test_activations_keep_zero_and_their_range() -> None:
    part = RoundedValue(same_bits=False)
    part.watching = True
    x = torch.linspace(-0.3, 2.0, 1000)
    assert torch.equal(part(x), x)
    part.watching = False
    y = part(x)
    assert len(y.unique()) <= 256
    assert float((y - x).abs().max()) < 2.3 / 255
    assert float(part(torch.zeros(1))) == 0.0
    assert float(part(torch.tensor([9.0]))) == pytest.approx(2.0, abs=0.01)


def test_the_graph_rounds_trains_and_comes_back() -> None:
    module = graph()
    x = torch.randn(4, 3, 8, 8)
    copy = rounded(module)
    assert sum(isinstance(m, RoundedWeight) for m in copy.modules()) == 3
    assert sum(isinstance(m, RoundedValue) for m in copy.modules()) == 4  # input, two activations, output
    see(copy, [(x,)])
    with torch.no_grad():
        apart = float((copy.eval()(x) - module(x)).norm() / module(x).norm())
    assert 1e-5 < apart < 0.05
    copy.train()(x).square().sum().backward()
    trained = [p for p in copy.parameters() if p.grad is not None]
    assert len(trained) == 6
    with torch.no_grad():
        for p in trained:
            p.add_(0.1)
    back = plain(copy, module)
    with torch.no_grad():
        assert not torch.allclose(back(x), module(x))
        assert not [m for m in back.modules() if isinstance(m, RoundedValue | RoundedWeight)]


def test_sensitivity_finds_the_layer_that_hurts() -> None:
    module = graph()
    with torch.no_grad():
        depthwise = dict(module.named_parameters())["3.weight"]
        depthwise.mul_(torch.logspace(-3, 0, 8).view(-1, 1, 1, 1))
        dict(module.named_parameters())["6.weight"].view(5, 8, 16).mul_(
            torch.logspace(3, 0, 8).view(1, -1, 1)
        )
    copy = rounded(module, per_channel=False)
    x = torch.randn(4, 3, 8, 8)
    see(copy, [(x,)])
    found = sensitivity(copy, [(x,)])
    assert next(iter(found)) in ("3.weight", "6.weight")
    assert set(found) == {"0.weight", "3.weight", "6.weight"}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(m.on for m in copy.modules() if isinstance(m, RoundedValue | RoundedWeight))
