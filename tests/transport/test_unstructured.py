"""Masks on weights: budgets exact, shapes unchanged, and said so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dtp_edge.errors import BudgetError, DtpEdgeError, InputError, UnsupportedError
from dtp_edge.transport import Budget, WeightPruner


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )


def trained(**budget: object) -> WeightPruner:
    pruner = WeightPruner(net(), torch.randn(1, 1, 8, 8), budget=Budget(**budget), total_steps=20)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(pruner.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x = torch.randn(16, 1, 8, 8, generator=generator)
        nn.functional.cross_entropy(pruner(x), (x.sum((1, 2, 3)) > 0).long()).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    return pruner


@pytest.mark.parametrize("budget", [{"keep": "20%"}, {"params": "20%"}, {"macs": "30%"}, {"params": 500}])
def test_budget_is_met_and_used_up(budget: dict[str, object]) -> None:
    pruner = trained(**budget)
    result = pruner.finish()
    limit = pruner.limits[0]
    assert result.used["cost"] <= limit
    assert result.used["cost"] > 0.99 * limit
    assert "no faster" in result.note
    for (name, dense), sparse in zip(net().named_parameters(), result.module.parameters(), strict=True):
        assert dense.shape == sparse.shape
        if name in result.kept:
            assert int((sparse != 0).sum()) <= result.kept[name][0]
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(result.module(x), pruner(x))


def test_macs_are_those_of_the_layers() -> None:
    pruner = WeightPruner(net(), torch.randn(1, 1, 8, 8), budget=Budget(macs="50%"), total_steps=5)
    assert float(pruner.costs.sum()) == 72 * 36 + 1152 * 16 + 2560
    assert pruner.limits == [0.5 * (72 * 36 + 1152 * 16 + 2560)]


def test_layer_wise_ratio_holds_in_every_layer_while_training_and_after() -> None:
    pruner = WeightPruner(
        net(), torch.randn(1, 1, 8, 8), budget=Budget(layer_keep="25%"), total_steps=8, ramp=0.1
    )
    for _ in range(7):
        shares = [float(m.mean()) for m in pruner.mask().detach().split(pruner.sizes)]
        assert shares == pytest.approx([0.25] * 3, abs=1e-5)
        pruner.step()
    assert [kept / total for kept, total in pruner.finish().kept.values()] == [0.25] * 3


def test_scores_learn() -> None:
    before = WeightPruner(net(), torch.randn(1, 1, 8, 8), budget=Budget(keep="20%"), total_steps=20).scores
    assert not torch.equal(before, trained(keep="20%").scores)


@pytest.mark.parametrize(
    ("budget", "error"),
    [
        ({"latency": "50%"}, UnsupportedError),
        ({"flash": "1MiB"}, UnsupportedError),
        ({"keep": "50%", "macs": "50%"}, InputError),
        ({"keep": 1e-9}, BudgetError),
    ],
)
def test_refuses(budget: dict[str, object], error: type[DtpEdgeError]) -> None:
    with pytest.raises(error):
        WeightPruner(net(), torch.randn(1, 1, 8, 8), budget=Budget(**budget), total_steps=5)  # type: ignore[arg-type]
