"""Masks on parameters against masks on activations, written out by hand."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dtp_edge.graph import MaskedNetwork, masked_forward, trace_network
from dtp_edge.graph.masking import Factors, fitted, scaled_parameters


def conv_net() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.Sigmoid(),
        nn.Conv2d(6, 4, 1),
        nn.Flatten(),
        nn.Linear(144, 2),
    )
    norm = cast(nn.BatchNorm2d, model[1])
    with torch.no_grad():
        cast(Tensor, norm.running_mean).normal_()
        cast(Tensor, norm.running_var).uniform_(0.5, 2)
        norm.weight.normal_()
        norm.bias.normal_()
    return model.double().eval()


def by_hand(model: nn.Sequential, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The same network, its hidden activations multiplied; sigmoid(0) is not 0, so the side matters."""
    y = model[2](model[1](model[0](x))) * first.reshape(1, -1, 1, 1)
    return model[5](model[4](model[3](y) * second.reshape(1, -1, 1, 1)))


@pytest.mark.parametrize("hard", [True, False])
def test_masked_parameters_do_what_masked_activations_do(hard: bool) -> None:
    model, x = conv_net(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    network = trace_network(model, x)
    widths = {group.stop - group.start: group for group in network.groups}
    assert sorted(widths) == [4, 6]
    mask = torch.rand(network.n_atoms, dtype=torch.float64)
    mask = (mask > 0.5).double() if hard else mask
    parts = [mask[widths[n].start : widths[n].stop] for n in (6, 4)]
    expected = by_hand(model, x, *parts)
    torch.testing.assert_close(masked_forward(network, None, mask, x), expected, rtol=1e-12, atol=1e-12)
    if hard:
        masked = MaskedNetwork(network, mask.numpy() > 0.5)
        torch.testing.assert_close(masked(x), expected, rtol=1e-12, atol=1e-12)
    assert all(p.grad is None for p in model.parameters())


def test_the_gradient_of_the_mask_by_finite_differences() -> None:
    model, x = conv_net(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    network = trace_network(model, x)
    mask = torch.rand(network.n_atoms, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: masked_forward(network, None, m, x), (mask,))


def test_attention_is_masked_where_its_product_is_made() -> None:
    """q and k meet in a product: a soft mask must act on it once, not once on each side."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(5, 6) for _ in range(3))
            self.out = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)))

    torch.manual_seed(0)
    model, x = Attention().double().eval(), torch.randn(2, 4, 5, dtype=torch.float64)
    network = trace_network(model, x)
    mask = torch.rand(network.n_atoms, dtype=torch.float64)
    (product,), (reader,) = network.node_sites, network.parameter_sites
    weight, value = (mask[torch.from_numpy(site.atoms[:, 0]).long()] for site in (product, reader))
    q, k, v = model.q(x), model.k(x), model.v(x)
    shares = torch.softmax((q * weight) @ k.transpose(1, 2) / 6**0.5, dim=-1)
    expected = model.out((shares @ v) * value)
    torch.testing.assert_close(masked_forward(network, None, mask, x), expected, rtol=1e-10, atol=1e-10)


def test_the_factor_of_an_index_is_the_product_of_its_atoms() -> None:
    rng = np.random.default_rng(0)
    atoms = rng.integers(-1, 5, (40, 3)).astype(np.int32)
    mask = torch.rand(5, dtype=torch.float64)
    wanted = [float(np.prod([mask[a].item() for a in row if a >= 0])) for row in atoms]
    torch.testing.assert_close(
        Factors([atoms], len(mask), mask.device)(mask)[0], torch.tensor(wanted, dtype=torch.float64)
    )


def test_parameters_that_no_site_touches_stay_the_same_objects() -> None:
    model = conv_net()
    network = trace_network(model, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    named = dict(model.named_parameters())
    scaled = scaled_parameters(network, torch.full((network.n_atoms,), 0.5, dtype=torch.float64), named)
    assert {n for n in named if scaled[n] is not named[n]} == {"3.weight", "5.weight"}  # the consumers
    assert torch.equal(scaled["3.weight"], 0.5 * named["3.weight"])


def test_factors_of_the_traced_batch_fit_another() -> None:
    factors = torch.tensor([1.0, 2.0, 3.0, 4.0])  # batch of 2, two indices each
    assert fitted(factors[:2], 6).tolist() == [1, 2, 1, 2, 1, 2]
    assert fitted(factors, 2).tolist() == [1, 2]
    assert fitted(factors, 4) is factors
