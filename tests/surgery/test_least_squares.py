"""Least squares at the cut, against numpy's own solver and networks whose loss can be made up for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.export_structures import Net, c, cbr
from torch import Tensor, nn

from dtp_edge.graph import MaskedNetwork, trace_network
from dtp_edge.surgery import compact, refit


def twins(channels: int = 6) -> nn.Sequential:
    """The second half of the first layer's channels repeats the first: dropping it loses nothing."""
    net = nn.Sequential(
        c(3, channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, 5, 3, stride=2, dilation=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    ).eval()
    randomise(net)
    half = channels // 2
    with torch.no_grad():
        for tensor in (net[0].weight, *net[1].state_dict().values()):
            if tensor.dim():
                tensor[half:] = tensor[:half]
    return net


def randomise(net: nn.Module) -> None:
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn_like(tensor) * 0.5)
                if "running_var" in name:
                    tensor.abs_().add_(0.2)


def keep_without(network, group: int, atoms: slice) -> np.ndarray:
    keep = np.ones(network.n_atoms, dtype=bool)
    g = network.groups[group]
    keep[g.start : g.stop][atoms] = False
    return keep


def test_what_can_be_made_up_for_is() -> None:
    """With the twins of the dropped channels left, the fitted network computes what the dense one does."""
    torch.manual_seed(0)
    net, x = twins(), torch.randn(64, 3, 12, 12)
    network = trace_network(net, (x[:2],))
    keep = keep_without(network, 0, slice(3, 6))
    with torch.no_grad():
        # the norm's statistics are re-estimated on these images, so let them be those of the images
        out = net[0](x)
        net[1].running_mean.copy_(out.mean((0, 2, 3)))
        net[1].running_var.copy_(out.var((0, 2, 3)))
        wanted = net(x)
        cut = compact(network, keep)
        assert (cut.module(x) - wanted).abs().max() > 0.01
        rows = refit(network, cut, net.state_dict(), (x,), ridge=1e-9)
        torch.testing.assert_close(cut.module(x), wanted, rtol=1e-3, atol=1e-4)
    assert [r.name for r in rows] == ["0.weight", "3.weight", "7.weight"]
    assert rows[1].before > 0.05
    assert all(r.after < 1e-6 for r in rows)


def test_the_fit_is_numpys() -> None:
    """One linear layer behind a cut: numpy's least squares on three rows of four."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    x = torch.randn(300, 6)
    network = trace_network(net, (x[:2],))
    keep = keep_without(network, 0, slice(0, 3))
    cut = compact(network, keep)
    refit(network, cut, net.state_dict(), (x,), ridge=1e-10)
    with torch.no_grad():
        y, hidden = net(x).double().numpy(), net[1](net[0](x))[:, 3:].double().numpy()
    design = np.concatenate([hidden, np.ones((300, 1))], 1)
    fitted = np.arange(300) % 4 > 0
    best = np.linalg.lstsq(design[fitted], y[fitted], rcond=None)[0]
    np.testing.assert_allclose(cut.module[2].weight.detach().numpy(), best[:5].T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(cut.module[2].bias.detach().numpy(), best[5], rtol=1e-3, atol=1e-4)


def test_a_strong_ridge_leaves_the_weights() -> None:
    torch.manual_seed(2)
    net, x = twins(), torch.randn(32, 3, 12, 12)
    network = trace_network(net, (x[:2],))
    cut = compact(network, keep_without(network, 0, slice(1, 4)))
    before = cut.module[3].weight.detach().clone()
    refit(network, cut, net.state_dict(), (x,), ridge=1e9)
    torch.testing.assert_close(cut.module[3].weight.detach(), before, rtol=1e-5, atol=1e-6)


def shortcuts() -> Net:
    """A padded shortcut, which makes the compact network a graph."""

    def run(s: Net, x: Tensor) -> Tensor:
        x = s.a(x)
        y = F.relu(s.n(s.b(x)) + F.pad(x, (0, 0, 0, 0, 2, 2)))
        return s.last(y.mean((2, 3)))

    parts = {"a": cbr(3, 6), "b": c(6, 10, bias=False), "n": nn.BatchNorm2d(10)}
    return Net(run, **parts, last=nn.Linear(10, 4))


@pytest.mark.parametrize("seed", range(6))
def test_the_fit_never_adds_error_and_is_seen_by_both_forms(seed: int) -> None:
    """Any cut: a layer's error to the dense output falls; masked network, graph and module stay one."""
    torch.manual_seed(seed)
    net, x = shortcuts().eval(), torch.randn(40, 3, 8, 8)
    randomise(net)
    network = trace_network(net, (x[:2],))
    keep = np.random.default_rng(seed).random(network.n_atoms) < 0.6
    for g in network.groups:
        keep[g.start] = True
    cut = compact(network, keep)
    rows = refit(network, cut, net.state_dict(), (x,))
    assert all(r.after < r.before for r in rows if r.reason is None)
    assert any(r.after < r.before - 1e-3 for r in rows)
    with torch.no_grad():
        torch.testing.assert_close(cut.module(x), cut.graph_module(x), rtol=1e-4, atol=1e-4)
        assert torch.isfinite(MaskedNetwork(network, keep)(x)).all()


def test_the_imitated_network_is_the_one_given() -> None:
    """Weights of `dense`, not those that the traced network has by now."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    x = torch.randn(300, 6)
    network = trace_network(net, (x[:2],))
    dense = {k: t.clone() for k, t in net.state_dict().items()}
    with torch.no_grad():
        wanted = net(x)
        net[2].weight.add_(1.0)
    cut = compact(network, np.ones(network.n_atoms, dtype=bool))
    rows = refit(network, cut, dense, (x,), ridge=1e-9)
    torch.testing.assert_close(cut.module(x), wanted, rtol=1e-3, atol=1e-3)
    assert rows[-1].before > 0.1 > 1e-6 > rows[-1].after


def test_layers_that_are_left_say_why() -> None:
    def run(s: Net, x: Tensor) -> Tensor:
        x = s.depth(s.first(x))
        return s.last((s.twice(x) + s.twice(x.relu())).mean((2, 3)))

    parts = {"first": cbr(3, 6), "depth": c(6, 6, groups=6), "twice": c(6, 6)}
    net = Net(run, **parts, last=nn.Linear(6, 4)).eval()
    x = torch.randn(256, 3, 8, 8)
    network = trace_network(net, (x[:2],))
    cut = compact(network, keep_without(network, 0, slice(0, 2)))
    reasons = {r.name: r.reason for r in refit(network, cut, net.state_dict(), (x,))}
    assert reasons["depth.weight"] == "a grouped convolution"
    assert reasons["twice.weight"] == "its weight is used more than once"
    # its inputs are whole, so there is nothing to make up for
    assert reasons["first.0.weight"] == "the error on rows that were not fitted did not fall"
