"""The two-atom plan against POT's Sinkhorn, finite differences, and its own constraint."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtp_edge.errors import InputError
from dtp_edge.transport import entropic_dual, entropic_mask


def doubles(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(8))
def test_equals_converged_sinkhorn(seed: int) -> None:
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 120))
    scores, costs = rng.normal(0.5, rng.uniform(0.1, 1), n), rng.uniform(0.1, 3, n)
    share, epsilon = rng.uniform(0.05, 0.95), float(10 ** rng.uniform(-1, 1))
    source = costs / costs.sum()
    target = np.array([1 - share, share])
    distance = (scores[:, None] - np.array([0.0, 1.0])) ** 2
    plan = ot.sinkhorn(
        source, target, distance, epsilon, method="sinkhorn_log", numItermax=200_000, stopThr=1e-15
    )
    expected = plan[:, 1] / source
    mask = entropic_mask(torch.tensor(scores), torch.tensor(costs), share * costs.sum(), epsilon)
    assert np.abs(mask.numpy() - expected).max() < 1e-10


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300),
    share=st.floats(0.001, 0.999),
    log_epsilon=st.floats(-12, 6),
    log_size=st.floats(-6, 200),
    seed=st.integers(0, 10**6),
    free=st.booleans(),
)
def test_budget_is_met_whatever_the_scale(
    n: int, share: float, log_epsilon: float, log_size: float, seed: int, free: bool
) -> None:
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.normal(size=n) * 10**log_size)
    costs = torch.tensor(rng.uniform(0.01, 5, n))
    if free and n > 1:
        costs[: n // 2] = 0
    budget = share * float(costs.sum())
    mask = entropic_mask(scores, costs, budget, 10**log_epsilon)
    assert bool(((mask >= 0) & (mask <= 1)).all())
    assert abs(float((costs * mask).sum()) - budget) <= 1e-6 * budget
    order = scores.argsort()
    assert bool((mask[order].diff() >= 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1000, 100_000])
def test_large_rows_meet_the_budget(dtype: torch.dtype, n: int) -> None:
    for epsilon in (1e-6, 0.01, 1.0, 100.0):
        scores, costs = doubles(n).to(dtype), doubles(n, seed=1).abs().to(dtype)
        budget = 0.3 * float(costs.double().sum())
        mask = entropic_mask(scores, costs, budget, epsilon)
        assert abs(float((costs.double() * mask.double()).sum()) - budget) <= 1e-6 * budget


def test_derivatives_first_and_second() -> None:
    s, c, p = doubles(3, 7), doubles(3, 7, seed=1).abs() + 0.1, doubles(3, 7, seed=2)
    b, e = 0.4 * c.sum(-1), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    inputs = tuple(t.clone().requires_grad_() for t in (s, c, b, e, p))
    assert torch.autograd.gradcheck(entropic_mask, inputs, atol=1e-6, rtol=1e-6)
    assert torch.autograd.gradgradcheck(entropic_mask, inputs, atol=1e-5, rtol=1e-5)


def test_gradient_is_the_published_formula() -> None:
    s = doubles(40).requires_grad_()
    c, g = doubles(40, seed=1).abs(), doubles(40, seed=2)
    m = entropic_mask(s, c, 0.3 * float(c.sum()), 0.2)
    m.backward(g)
    q = (m * (1 - m)).detach()
    expected = (2 / 0.2) * q * (g - c * (g * q).sum() / (c * q).sum())
    torch.testing.assert_close(s.grad, expected, rtol=1e-10, atol=1e-12)


def test_prior_accumulates_like_a_smaller_epsilon() -> None:
    s, c = doubles(50), doubles(50, seed=1).abs()
    budget, log_odds = 0.4 * float(c.sum()), torch.zeros(50, dtype=torch.float64)
    for _ in range(10):
        m = entropic_mask(s, c, budget, 5.0, log_prior=log_odds)
        log_odds = torch.logit(m)
    torch.testing.assert_close(m, entropic_mask(s, c, budget, 0.5), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edges_are_finite_with_finite_gradients(dtype: torch.dtype) -> None:
    big = torch.finfo(dtype).max
    rows = [torch.zeros(6), torch.full((6,), 3.0), torch.arange(6.0), torch.tensor([1.0] * 3 + [-1.0] * 3)]
    rows += [
        torch.tensor([1, -1, 0.5, 0, 1, -1], dtype=dtype) * big,
        torch.tensor([1e-30, 0, 0, 0, 0, 1e-30]),
    ]
    for row in rows:
        for costs in (None, torch.tensor([0.0, 0, 0, 1, 2, 3]), torch.zeros(6)):
            total = 6.0 if costs is None else float(costs.sum())
            for share in (0.0, 1e-12, 0.5, 1 - 1e-7, 1.0, 2.0):
                s = row.to(dtype).requires_grad_()
                c = None if costs is None else costs.to(dtype)
                m = entropic_mask(s, c, share * total, 1e-3)
                m.sum().backward()
                assert s.grad is not None
                assert bool(torch.isfinite(m).all() and torch.isfinite(s.grad).all())
                assert bool(((m >= 0) & (m <= 1)).all())
    assert entropic_mask(torch.zeros(4), None, 0.0, 0.1).tolist() == [0] * 4
    assert entropic_mask(torch.zeros(4), None, 4.0, 0.1).tolist() == [1] * 4
    torch.testing.assert_close(entropic_mask(torch.zeros(4), None, 1.0, 0.1), torch.full((4,), 0.25))


def test_rows_are_independent() -> None:
    s, c = doubles(2, 3, 20), doubles(2, 3, 20, seed=1).abs()
    budget = c.sum(-1) * torch.tensor([[0.1, 0.5, 0.9], [0.0, 0.3, 1.0]], dtype=torch.float64)
    together = entropic_mask(s, c, budget, 0.3)
    for i in range(2):
        for j in range(3):
            alone = entropic_mask(s[i, j], c[i, j], budget[i, j], 0.3)
            torch.testing.assert_close(together[i, j], alone, rtol=1e-11, atol=1e-13)


def test_dual_is_the_threshold() -> None:
    s = doubles(30)
    tau = entropic_dual(s, None, 10.0, 0.4)
    torch.testing.assert_close(torch.sigmoid((2 / 0.4) * (s - tau)), entropic_mask(s, None, 10.0, 0.4))


def test_half_precision_and_autocast() -> None:
    s = torch.randn(64, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        m = entropic_mask(s, None, 16.0, 0.5)
    assert m.dtype == torch.bfloat16
    m.float().sum().backward()
    assert s.grad is not None
    assert s.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": math.nan},
        {"budget": -1.0},
        {"budget": math.nan},
        {"costs": torch.tensor([1.0, -1.0, 1.0])},
        {"costs": torch.tensor([1.0, math.inf, 1.0])},
        {"costs": torch.ones(4)},
        {"scores": torch.tensor([0.0, math.nan, 1.0])},
        {"scores": torch.tensor([1, 2, 3])},
        {"log_prior": torch.ones(2)},
        {"budget": torch.ones(3)},
    ],
)
def test_refuses_with_a_reason(change: dict[str, object]) -> None:
    arguments: dict = {"scores": torch.zeros(3), "costs": None, "budget": 1.0, "epsilon": 0.1} | change
    with pytest.raises(InputError):
        entropic_mask(**arguments)
