"""The verdict: each way in which a budget can hold, nearly hold, or not hold."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binomtest

from dtp_edge.report import words
from dtp_edge.report.series import layer_names
from dtp_edge.report.verdict import accuracy_cost, judge, wilson


def one_budget(**change: Any) -> dict[str, Any]:
    budget = {
        "metric": "latency_ms",
        "unit": "ms",
        "asked_text": "10ms",
        "limit": 10.0,
        "fits": True,
        "dense_predicted": 20.0,
        "pruned_predicted": 9.0,
        "relative_error_of_profile": 0.05,
    }
    return {"budgets": [{**budget, **change}], "checks": []}


@pytest.mark.parametrize(
    ("change", "status", "words_in_it"),
    [
        ({}, "good", "8.55 ms to 9.45 ms, within the limit"),
        ({"relative_error_of_profile": 0.2}, "warn", "inside the profile's error of 20.0 %"),
        ({"relative_error_of_profile": 0.2, "pruned_measured": 9.5}, "good", "Measured: 9.50 ms"),
        ({"relative_error_of_profile": None}, "warn", "is not known"),
        ({"relative_error_of_profile": 0.0}, "good", "A count"),
        ({"pruned_predicted": 11.0, "fits": False}, "bad", "over the limit of 10.0 ms"),
        ({"pruned_measured": 12.0}, "warn", "Measured: 12.0 ms. That is over the limit"),
        ({"limit": None, "fits": None, "asked_text": None}, "info", "for comparison"),
        ({"pruned_predicted": None}, "warn", "no prediction"),
    ],
)
def test_one_budget(change: dict[str, Any], status: str, words_in_it: str) -> None:
    verdict = judge(one_budget(**change))
    assert verdict.status == status
    assert words_in_it in verdict.budgets[0].sure


def test_a_relative_budget_is_held_against_the_measured_ratio() -> None:
    """The machine is 30 % slower than its profile says, for both networks: 50 % of dense still holds."""
    slow = {"asked_text": "50%", "dense_measured": 26.0, "pruned_measured": 11.7}
    assert judge(one_budget(**slow)).status == "good"
    slow["measurement"] = {"runtime": "onnxruntime", "ratio": 0.53, "ratio_low": 0.49}
    verdict = judge(one_budget(**slow))
    assert verdict.status == "warn"
    assert verdict.headline == "Predicted to fit, measured over"
    assert "within the spread" in verdict.budgets[0].sure


def test_the_worst_budget_decides_and_a_failed_check_overrides() -> None:
    report = one_budget()
    assert judge(report).headline == "It fits"
    report["budgets"] += one_budget(metric="macs", fits=False, pruned_predicted=11.0)["budgets"]
    assert judge(report).status == "bad"
    report["budgets"].pop()
    report["checks"] = [{"name": "torch = ONNX Runtime", "passed": False}]
    assert judge(report).status == "bad"
    assert "check failed" in judge(report).headline


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (347, 360), (9_000, 10_000)])
def test_wilson_against_scipy(hits: int, count: int) -> None:
    ours = wilson(hits / count, count)
    theirs = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=2e-5)


def test_wilson_knows_what_it_cannot_say() -> None:
    assert wilson(0.5, None) is None
    assert wilson(35.2, 100) is None


def test_accuracy_is_held_against_the_control_before_the_base() -> None:
    accuracy: dict[str, Any] = {"metric": "top-1", "base": 0.90, "control": 0.92, "pruned": 0.91}
    assert accuracy_cost(accuracy) == ("−1.0 points", "the dense network with the same fine-tuning")
    accuracy["control"] = None
    assert accuracy_cost(accuracy) == ("+1.0 points", "the network as given")
    assert accuracy_cost(None) is None


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.418, "ms", "12.4 ms"),
        (0.0041, "ms", "4.10 µs"),
        (0.0, "ms", "0 ms"),
        (512, "bytes", "512 B"),
        (144 * 1024, "bytes", "144 KiB"),
        (40_551_040, "MACs", "40.6 M"),
        (999, "parameters", "999"),
        (None, "ms", "–"),
    ],
)
def test_figures(value: float | None, unit: str, text: str) -> None:
    assert words.figure(value, unit) == text


def test_short_keeps_both_ends() -> None:
    assert words.short("a" * 500 + "tail", 20) == "a" * 12 + "…" + "aaatail"
    assert len(words.short("x" * 10_000, 40)) == 40


def test_a_layer_is_called_by_its_module_where_that_says_which() -> None:
    layers: list[dict[str, Any]] = [
        {"name": "conv2d_5", "module": "layer1.0.conv1"},
        {"name": "relu_3", "module": "layer1.0.conv1", "fused_into": "conv2d_5"},
        {"name": "add_2", "module": "layer1.0"},
        {"name": "mul_1", "module": "layer1.0"},
        {"name": "flatten", "module": ""},
    ]
    assert layer_names(layers)[:2] == ["layer1.0.conv1", "layer1.0.conv1 relu_3"]
    assert layer_names(layers)[2:] == ["layer1.0 add_2", "layer1.0 mul_1", "flatten"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.99998, "1.00"), (1e-4, "1.00e-04"), (0.0123, "0.0123"), (1234.5, "1234"), (0, "0")]
)
def test_digits(value: float, text: str) -> None:
    assert words.digits(value) == text


def test_facts_show_bytes_as_people_read_them() -> None:
    assert words.fact("memory_bytes", 8 * 2**30) == "memory: 8.00 GiB"
    assert words.fact("mask_epochs", 2) == "mask epochs: 2"
