"""Curves of whole networks: moments in batches, and the error of a width as the network itself shows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.export_structures import cbr
from torch import Tensor, nn

from dtp_edge.graph import MaskedNetwork, masked_forward, trace_network
from dtp_edge.surgery import error_curves
from dtp_edge.surgery.compaction import named_tensors
from dtp_edge.surgery.error_curves import curves_of, repaired_without
from dtp_edge.surgery.moments import Moment, moments_of


def randomise(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn_like(tensor) * 0.5)
                if "running_var" in name:
                    tensor.abs_().add_(0.2)
    return net.eval()


def flattened() -> tuple[nn.Module, Tensor]:
    """One group, read by a linear layer behind a flatten: an atom has nine inputs there."""
    net = nn.Sequential(cbr(2, 6), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 4))
    return randomise(net), torch.randn(400, 2, 6, 6)


def twice() -> tuple[nn.Module, Tensor]:
    """One group, read by two layers, one of them grouped."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = cbr(2, 6), nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return torch.cat([self.a(x).flatten(1), self.b(x).flatten(1)], 1)

    return randomise(Two()), torch.randn(400, 2, 6, 6)


@pytest.mark.parametrize("make", [flattened, twice])
def test_repaired_outputs_have_the_error_of_the_curve(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The readers make the output, so the network's own error is the curve's, positions being all read."""
    monkeypatch.setattr(error_curves, "RIDGE", 1e-9)
    torch.manual_seed(0)
    net, x = make()
    network = trace_network(net, (x[:2],))
    moments = moments_of(network, [(x[:150],), (x[150:],)], len(x))
    group = next(i for i, g in enumerate(network.groups) if g.stop - g.start == 6)
    curve = curves_of(network, moments, (0.3, 0.5))[group]
    assert curve is not None
    start = network.groups[group].start
    for count in curve.repaired:
        mask = torch.ones(network.n_atoms)
        mask[start + torch.as_tensor(curve.order[:count].copy())] = 0
        tensors = named_tensors(net) | repaired_without(network, curve, moments, count)
        with torch.no_grad():
            error = (masked_forward(network, net, mask, (x,), tensors) - net(x)).double().square()
        if make is flattened:
            assert float(error.sum() / len(x)) == pytest.approx(curve.error[count], rel=1e-3)
        else:
            parts = error[:, :64].sum() / (16 * len(x)), error[:, 64:].sum() / (36 * len(x))
            assert float(sum(parts)) == pytest.approx(curve.error[count], rel=1e-3)


def test_repair_is_better_than_none() -> None:
    torch.manual_seed(1)
    net, x = flattened()
    network = trace_network(net, (x[:2],))
    moments = moments_of(network, [(x,)], len(x))
    curve = curves_of(network, moments, (0.5,))[0]
    assert curve is not None
    (count,) = curve.repaired
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[curve.order[:count]] = False
    tensors = named_tensors(net) | repaired_without(network, curve, moments, count)
    mask = torch.as_tensor(keep, dtype=torch.float32)
    with torch.no_grad():
        plain = (MaskedNetwork(network, keep)(x) - net(x)).square().mean()
        repaired = (masked_forward(network, net, mask, (x,), tensors) - net(x)).square().mean()
    assert repaired < 0.7 * plain


def test_batches_and_blocks_add_up() -> None:
    x = torch.randn(50, 12, dtype=torch.float64)
    whole = Moment.empty(12, 1, 3, centred=True)
    for part in x.split(7):
        whole.add(part)
    (block,) = whole.blocks(0.0)
    np.testing.assert_allclose(block.numpy(), np.cov(x.numpy().T, bias=True), rtol=1e-9, atol=1e-12)


def test_a_layer_of_many_inputs_is_kept_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks end where a channel ends, and their moments are those of the whole."""
    monkeypatch.setattr("dtp_edge.surgery.moments.MOST_INPUTS", 7)
    x = torch.randn(50, 12, dtype=torch.float64)
    moment = Moment.empty(12, 1, 3, centred=False)
    moment.add(x)
    assert moment.starts == (0, 6, 12)
    wanted = (x.T @ x / 50).numpy()
    for block, at in zip(moment.blocks(0.0), (slice(0, 6), slice(6, 12)), strict=True):
        np.testing.assert_allclose(block.numpy(), wanted[at, at], rtol=1e-9)


@pytest.mark.parametrize("centred", [True, False])
def test_rows_that_are_nearly_alike_keep_their_differences(centred: bool) -> None:
    """In float32 products about zero they would be lost, and the moment no moment any more."""
    x = 3 * torch.randn(1, 20) + 1e-4 * torch.randn(4000, 20)
    moment = Moment.empty(20, 1, 1, centred=centred)
    for part in x.split(256):
        moment.add(part)
    rows = x.double()
    wanted = rows.T @ rows / len(rows)
    if centred:
        wanted -= torch.outer(rows.mean(0), rows.mean(0))
    (found,) = moment.blocks(0.0)
    assert (found - wanted).abs().max() < 1e-4 * wanted.diagonal().mean()
    assert torch.linalg.eigvalsh(found).min() > -1e-12
