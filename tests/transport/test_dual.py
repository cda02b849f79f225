"""The root finder of the mask against plain bisection in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.transport._dual import solve_dual


def bisect(u: np.ndarray, c: np.ndarray, budget: float, kappa: float) -> np.ndarray:
    """The mask whose cost is the budget, found by halving an interval 200 times."""

    def mask(shift: float) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(kappa * u - shift, -700, 700)))

    low, high = kappa * u.min() - 60, kappa * u.max() + 60
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if c @ mask(middle) > budget else (low, middle)
    return mask((low + high) / 2)


@pytest.mark.parametrize("kappa", [0.5, 20.0, 2000.0])
@pytest.mark.parametrize("costs", [False, True])
@pytest.mark.parametrize("n", [1, 2, 37, 5000])
def test_the_mask_is_the_one_that_bisection_finds(n: int, costs: bool, kappa: float) -> None:
    rng = np.random.default_rng(n)
    u = rng.standard_normal((3, n))
    c = rng.uniform(0.1, 5, (3, n)) if costs else np.ones((3, n))
    budget = np.array([[0.1], [0.5], [0.93]]) * c.sum(axis=1, keepdims=True)
    given = torch.tensor(c) if costs else None
    dual = solve_dual(torch.tensor(u), given, torch.tensor(budget), torch.full((3, 1), kappa).double())
    for row in range(3):
        wanted = bisect(u[row], c[row], budget[row, 0], kappa)
        np.testing.assert_allclose(dual.mask[row].numpy(), wanted, atol=1e-7)
        assert c[row] @ dual.mask[row].numpy() == pytest.approx(budget[row, 0], rel=1e-9)


def solve(u: Tensor, c: Tensor | None, budget: float, kappa: float = 10.0) -> Tensor:
    one = torch.ones(1, dtype=u.dtype)
    return solve_dual(u, c, budget * one, kappa * one).mask


def test_budgets_at_the_edges() -> None:
    u = torch.randn(50, dtype=torch.float64)
    assert (solve(u, None, 50.0) == 1).all()
    assert (solve(u, None, 80.0) == 1).all()
    assert (solve(u, None, 0.0) == 0).all()
    assert (solve(u, None, -1.0) == 0).all()


def test_what_costs_nothing_is_kept_by_its_score_alone() -> None:
    u, c = torch.tensor([2.0, 1.0, -1.0, 3.0]).double(), torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
    mask = solve(u, c, 1.5)
    assert float(c @ mask) == pytest.approx(1.5)
    assert mask.argsort().tolist() == u.argsort().tolist()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_scores_of_any_size_that_are_all_the_same_get_the_same_mask(scale: float) -> None:
    mask = solve(torch.full((40,), scale, dtype=torch.float64), None, 10.0, 1e3)
    np.testing.assert_allclose(mask.numpy(), 0.25, rtol=1e-9)


def test_infinite_scores_are_bounded_and_nan_is_refused() -> None:
    u = torch.tensor([float("inf"), 0.0, 0.1, -float("inf")], dtype=torch.float64)
    mask = solve(u, None, 2.0)
    assert float(mask.sum()) == pytest.approx(2.0)
    assert (float(mask[0]), float(mask[3])) == (1.0, 0.0)
    with pytest.raises(InputError, match="NaN"):
        solve(torch.tensor([0.0, float("nan")]).double(), None, 1.0)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_costs_must_be_finite_and_not_negative(bad: float) -> None:
    with pytest.raises(InputError, match="costs must be finite"):
        solve(torch.zeros(2).double(), torch.tensor([1.0, bad]).double(), 0.5)


def test_scores_are_left_as_they_were() -> None:
    u = torch.randn(3, 200, dtype=torch.float64, requires_grad=True)
    before = u.detach().clone()
    dual = solve_dual(u, None, torch.tensor([[30.0]]).double(), torch.tensor([[5.0]]).double())
    assert torch.equal(u.detach(), before)
    assert not dual.mask.requires_grad
