"""What a fit in context says through a norm's statistics is kept where these are estimated anew."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, fx

from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.surgery import compact, refit, refit_to_train, relative_error
from dtp_edge.surgery.compaction import Compact
from dtp_edge.surgery.norm_statistics import moments_of_channels, restate_norms
from dtp_edge.training.feed import Feed
from dtp_edge.training.recalibrate import renew
from dtp_edge.zoo import create


def without_a_block() -> tuple[PrunableNetwork, Compact, dict[str, Tensor], Tensor]:
    torch.manual_seed(0)
    model, x = create("resnet8"), torch.randn(64, 3, 32, 32)
    renew(model, [(x, None)], Feed())
    network = trace_network(model.eval(), (x[:2],), depth=True)
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[network.branches[0].atom] = False
    keep = network.settled(keep)
    return network, compact(network, keep), copy.deepcopy(network.module.state_dict()), x


@torch.no_grad()
def output(module: fx.GraphModule, x: Tensor) -> Tensor:
    return module.eval()(x)


def test_the_function_stays_and_outlives_new_statistics() -> None:
    network, cut, dense, x = without_a_block()
    refit(network, cut, dense, (x,), streams=True)
    fitted = output(cut.graph_module, x)
    plain = copy.deepcopy(cut.graph_module)
    renew(plain, [(x, None)], Feed())
    assert restate_norms(cut.graph_module, [(x[:32],), (x[32:],)]) > 2
    assert relative_error([output(cut.graph_module, x)], [fitted]) < 1e-4, "the same in evaluation"
    renew(cut.graph_module, [(x, None)], Feed())
    kept, lost = (relative_error([output(m, x)], [fitted]) for m in (cut.graph_module, plain))
    assert kept < 0.02 < lost


def test_a_cut_that_is_trained_is_fitted_so_where_branches_may_go() -> None:
    network, cut, dense, x = without_a_block()
    refit(network, cut, dense, [(x,)], streams=True)
    wanted = output(cut.graph_module, x)
    network, cut, dense, x = without_a_block()
    refit_to_train(network, cut, dense, [(x,)])
    assert relative_error([output(cut.graph_module, x)], [wanted]) < 1e-4


def test_without_branches_the_fit_is_what_it_was() -> None:
    torch.manual_seed(0)
    x, found = torch.randn(32, 3, 32, 32), []
    for fit in (refit, refit_to_train):
        torch.manual_seed(0)
        network = trace_network(create("resnet8").eval(), (x[:2],))
        keep = np.arange(network.n_atoms) % 2 == 0
        cut = compact(network, keep)
        fit(network, cut, copy.deepcopy(network.module.state_dict()), [(x,)])
        found.append(output(cut.graph_module, x))
    assert torch.equal(*found)


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_without_gain_keeps_its_statistics(affine: bool) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, affine=affine)).eval()
    x = torch.randn(8, 3, 8, 8)
    network = trace_network(model, (x,))
    before = output(network.graph_module, x)
    assert restate_norms(network.graph_module, [(x,)]) == int(affine)
    assert relative_error([output(network.graph_module, x)], [before]) < 1e-5


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 6), (1, 3, 2, 7)])
def test_moments_of_parts_are_those_of_the_whole(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    parts = [torch.randn(n, shape[1], *shape[2:]) * (1 + n) + 1000 for n in (shape[0], 1, 4)]
    whole = torch.cat(parts).double().transpose(0, 1).flatten(1)
    moments = moments_of_channels(parts)
    assert moments is not None
    torch.testing.assert_close(moments[0], whole.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(moments[1], whole.var(1), rtol=1e-4, atol=0)


def test_one_value_has_no_spread() -> None:
    assert moments_of_channels([torch.ones(1, 3, 1, 1)]) is None
