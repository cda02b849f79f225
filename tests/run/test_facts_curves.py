"""The curves of a report from the rows of a training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from dtp_edge.run.facts_curves import curve_rows

NETWORK: Any = SimpleNamespace(n_atoms=10, layers=SimpleNamespace(sizes=np.sum))
COST: Any = SimpleNamespace(
    evaluate=lambda sizes: {"latency_ms": 8.0, "macs": 100.0}, dense_sizes=lambda: None
)


def mask_row(step: int, latency: float, macs: float) -> dict[str, Any]:
    costs, budget = {"latency_ms": latency, "macs": macs}, {"latency_ms": 6.0, "macs": 80.0}
    return {
        "step": step,
        "phase": "masks",
        "loss": 1.0,
        "softness": 2.5,
        "costs": costs,
        "budget_now": budget,
    }


def test_cost_is_a_share_of_dense_in_the_metric_that_binds() -> None:
    training = SimpleNamespace(curves=[mask_row(1, 6.0, 80.0), mask_row(2, 4.0, 60.0)])
    rows = curve_rows(training, NETWORK, COST, {"latency_ms": 4.0, "macs": 90.0})
    assert [r["budget_fraction"] for r in rows] == [0.75, 0.5]
    assert rows[0]["target_fraction"] == 0.75
    assert rows[0]["softness_fraction"] == 1.0  # mean m(1-m) = 1/4: all masks at one half
    rows = curve_rows(training, NETWORK, COST, {"latency_ms": 8.0, "macs": 60.0})
    assert [r["budget_fraction"] for r in rows] == [0.8, 0.6]


def test_scored_steps_survive_the_thinning() -> None:
    curves: list[dict[str, Any]] = [
        {"step": i, "phase": "base", "loss": 1.0, "accuracy": 0.5} for i in range(4001)
    ]
    curves[1234]["holdout_accuracy"] = 0.9
    curves[2345]["went_back_from"] = 2400
    rows = curve_rows(SimpleNamespace(curves=curves), NETWORK, COST, {})
    assert len(rows) <= 403
    assert [r["accuracy"] for r in rows if "accuracy" in r] == [0.9]
    assert [(r["step"], r["went_back_from"]) for r in rows if "went_back_from" in r] == [(2345, 2400)]


def test_no_training_no_curves() -> None:
    assert curve_rows(None, NETWORK, COST, {}) == []
