"""A fit that knows what follows a layer: the stream that it is added to, the ReLU, groups, and its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.export_structures import Net, c, cbr
from torch import Tensor, nn

from dtp_edge.graph import MaskedNetwork, trace_network
from dtp_edge.surgery import compact, put_back, refit
from dtp_edge.surgery.fitting import Ridge
from dtp_edge.surgery.in_context import GROWTH


def randomise(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn_like(tensor) * 0.5)
                if "running_var" in name:
                    tensor.abs_().add_(0.2)
    return net.eval()


def residual() -> nn.Module:
    def run(s: Any, x: Tensor) -> Tensor:
        x = s.stem(x)
        for a, b, n in ((s.a1, s.b1, s.n1), (s.a2, s.b2, s.n2)):
            x = F.relu(n(b(a(x))) + x)
        return s.last(x.mean((2, 3)))

    parts = {f"a{i}": cbr(8, 12) for i in (1, 2)} | {f"b{i}": c(12, 8, bias=False) for i in (1, 2)}
    norms = {f"n{i}": nn.BatchNorm2d(8) for i in (1, 2)}
    return randomise(Net(run, stem=cbr(3, 8), last=nn.Linear(8, 5), **parts, **norms))


def depthwise() -> nn.Module:
    parts = [cbr(3, 8), cbr(8, 8, groups=8), cbr(8, 12, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return randomise(nn.Sequential(*parts, nn.Linear(12, 5)))


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=True)
    return randomise(nn.Sequential(layer, nn.LayerNorm(16), nn.Flatten(), nn.Linear(16 * 5, 4)))


def error_of(net: nn.Module, x: Tensor, keep: np.ndarray, **options) -> float:
    """Squared error of the fitted compact network's output on inputs that it was not fitted on."""
    network = trace_network(net, (x[:2],))
    cut = compact(network, keep)
    refit(network, cut, net.state_dict(), [(x[:32],), (x[32:64],)], ridge=0.01, **options)
    with torch.no_grad():
        return float((cut.module(x[64:]) - net(x[64:])).square().mean())


def half(net: nn.Module, x: Tensor, seed: int) -> np.ndarray:
    network = trace_network(net, (x[:2],))
    keep = np.random.default_rng(seed).random(network.n_atoms) < 0.6
    for g in network.groups:
        keep[g.start] = True
    return keep


def test_knowing_the_stream_beats_fitting_each_layer_to_its_own() -> None:
    better = []
    for seed in range(5):
        torch.manual_seed(seed)
        net, x = residual(), torch.randn(96, 3, 8, 8)
        keep = half(net, x, seed)
        better.append(error_of(net, x, keep, streams=True) / error_of(net, x, keep))
    assert np.median(better) < 0.8


@pytest.mark.parametrize("make", [residual, depthwise])
def test_masked_and_compact_stay_one(make) -> None:
    torch.manual_seed(1)
    net, x = make(), torch.randn(64, 3, 8, 8)
    network = trace_network(net, (x[:2],))
    keep = half(net, x, 1)
    cut = compact(network, keep)
    rows = refit(network, cut, net.state_dict(), [(x,)], ridge=0.01, streams=True)
    assert any(row.reason is None and (row.after or 0) < (row.before or 0) for row in rows)
    put_back(network, cut)
    with torch.no_grad():
        torch.testing.assert_close(cut.module(x), MaskedNetwork(network, keep)(x), rtol=1e-3, atol=1e-4)


def test_grouped_convolutions_are_fitted_too() -> None:
    torch.manual_seed(2)
    net, x = depthwise(), torch.randn(64, 3, 8, 8)
    network = trace_network(net, (x[:2],))
    keep = half(net, x, 3)
    rows = refit(network, compact(network, keep), net.state_dict(), [(x,)], ridge=0.01, streams=True)
    assert len(rows) == 4
    assert not any(row.reason == "a grouped convolution" for row in rows)


@pytest.mark.parametrize("spoiled", ["constant", "repeated", "one"])
def test_singular_inputs_never_crash_and_no_weight_grows(spoiled: str) -> None:
    torch.manual_seed(4)
    net, x = residual(), torch.randn(64, 3, 8, 8)
    x = {"constant": torch.full_like(x, 3.0), "repeated": x[:1].expand(64, -1, -1, -1), "one": x[:1]}[spoiled]
    network = trace_network(net, (torch.randn(2, 3, 8, 8),))
    keep = half(net, torch.randn(2, 3, 8, 8), 4)
    cut = compact(network, keep)
    refit(network, cut, net.state_dict(), [(x,)], ridge=0.01, streams=True)
    dense = dict(net.state_dict())
    for name, tensor in cut.graph_module.state_dict().items():
        assert torch.isfinite(tensor).all(), name
        if name.endswith("weight") and tensor.dim() > 1:
            kept = cut.kept.get(name, {}).get(0, range(len(tensor)))
            norms = dense[name].flatten(1).norm(dim=1)[list(kept)]
            assert (tensor.flatten(1).norm(dim=1) <= (GROWTH + 1e-3) * norms).all(), name


@pytest.mark.parametrize("rows", [200, 3])  # more than inputs, or fewer
def test_each_group_has_its_own_solution_and_a_singular_one_keeps_its_weights(rows: int) -> None:
    generator = torch.Generator().manual_seed(5)
    x, y, start = (
        torch.randn(*shape, generator=generator).double() for shape in ((rows, 12), (rows, 6), (6, 4))
    )
    found = Ridge(x, start, 0.1, groups=3).weights(y)
    for g in range(3):
        xs, ys, before = x[:, 4 * g : 4 * g + 4], y[:, 2 * g : 2 * g + 2], start[2 * g : 2 * g + 2]
        pull = (0.1 * xs.square().mean() * len(x)).sqrt()
        both = torch.cat([xs, pull * torch.eye(4, dtype=x.dtype)])
        wanted = torch.linalg.lstsq(both, torch.cat([ys, pull * before.T])).solution.T
        torch.testing.assert_close(found[2 * g : 2 * g + 2], wanted)
    broken = x.clone()
    broken[0, 5] = torch.nan
    kept = Ridge(broken, start, 0.1, groups=3).weights(y)
    assert torch.equal(kept[2:4], start[2:4])
    torch.testing.assert_close(kept[[0, 1, 4, 5]], found[[0, 1, 4, 5]])
