"""Keep ratios a layer are a budget like any other: one-shot, trained, planned, and checked at the end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.proved import Cut
from dtp_edge.run.task import Task
from dtp_edge.training import Recipe, load_data

DEVICE = "rpi4-ncnn-fp32-1t"
INPUT = torch.zeros(1, 1, 8, 8)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def shares(widths: dict[str, tuple[int, int]]) -> list[float]:
    return [kept / total for kept, total in widths.values()]


def test_one_shot_and_plan_honour_layer_ratios() -> None:
    budget = dtp.Budget(layer_keep=0.5)
    result = dtp.prune_for_device(net(), INPUT, device=DEVICE, budget=budget)
    assert shares(result.widths) == [0.5, 0.5]
    check = next(c for c in result.report["checks"] if "budget" in c["name"])
    assert check["value"] == 1.0
    assert "2 layers keep their ratio" in check["detail"]
    assert shares(dtp.feasibility(net(), INPUT, [DEVICE], budget)[0]["widths"]) == [0.5, 0.5]


def test_a_trained_run_honours_them_beside_a_latency() -> None:
    recipe = Recipe(base_epochs=0, mask_epochs=1, tune_epochs=0, batch_size=256)
    data = load_data("digits", image_size=8)
    budget = dtp.Budget(layer_keep={"0": 0.5}, latency="90%")
    result = dtp.prune_for_device(net(), INPUT, device=DEVICE, budget=budget, data=data, recipe=recipe)
    assert result.widths["0"][0] <= 6
    assert result.widths["2"][0] > 8


def task(**budget: object) -> Task:
    network = trace_network(net(), (INPUT,))
    return Task.of(network, load_profile(DEVICE), dtp.Budget(**budget))  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", [{"layer_keep": 0.5}, {"macs": "50%"}, {"keep": 0.5}])
def test_widths_beyond_the_budget_fail_the_check(budget: dict[str, object]) -> None:
    found = task(**budget)
    assert found.check(found.harden(np.arange(28.0))).passed
    everything = np.ones(28, dtype=bool)
    assert not found.check(everything).passed
    with pytest.raises(dtp.DtpEdgeError, match="budget on the final widths"):
        Cut.of(found, everything)


def test_diverged_weights_are_named_at_the_end() -> None:
    found = task(keep=0.5)
    next(found.network.module.parameters()).data[0] = float("nan")
    with pytest.raises(dtp.DtpEdgeError, match=r"0\.weight"):
        Cut.of(found, found.harden(np.arange(28.0)))
