"""Problems whose best subset is known (see `planted`): found under every kind of budget."""

from __future__ import annotations

import pytest
import torch

from benchmarks.problems.planted import BUDGETS, brute_force, find, plant


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_planted_channels_are_the_best_that_the_budget_lets_in(budget: str) -> None:
    for seed in range(3):
        problem = plant(seed, budget)
        keep, loss, second = brute_force(problem)
        assert (keep == problem.truth).all()
        assert loss < 1e-9
        assert second > 0.01


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(
    "seeds", [range(3), pytest.param(range(100), marks=pytest.mark.slow)], ids=["few", "hundred"]
)
def test_planted_channels_are_found(budget: str, seeds: range) -> None:
    torch.set_num_threads(1)
    found = [find(seed, budget) for seed in seeds]
    learned, start = (sum(pair[i] for pair in found) for i in range(2))
    print(f"{budget}: {learned} of {len(seeds)} learned, {start} from the start alone")
    assert learned >= 0.95 * len(seeds)
    assert start <= 0.2 * len(seeds)
