"""What the figures of a report amount to: does it fit, and how sure are we.

A prediction carries the held-out error of its profile; a measurement carries its spread. A budget is
*good* when it holds at the far end of that error, *warn* when it holds only in the middle of it (or a
measurement disagrees), *bad* when it does not hold, *info* when nothing was asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dtp_edge.metrics import TOP1, Headline
from dtp_edge.report.words import figure, metric_title, percent

Status = Literal["good", "warn", "bad", "info"]
ORDER: tuple[Status, ...] = ("info", "good", "warn", "bad")


@dataclass(frozen=True)
class BudgetRow:
    """One budget judged; `sure` is one sentence that says how far to trust it."""

    metric: str
    title: str
    asked: str | None
    limit: str
    dense: str
    pruned: str
    share_of_dense: str
    status: Status
    mark: str
    sure: str


@dataclass(frozen=True)
class Verdict:
    status: Status
    headline: str
    summary: str
    budgets: tuple[BudgetRow, ...]


def judge(report: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a valid report."""
    rows = tuple(_row(budget) for budget in report["budgets"])
    asked = [row for row in rows if row.status != "info"]
    failed = [c["name"] for c in report.get("checks") or [] if not c["passed"]]
    statuses: list[Status] = [row.status for row in asked]
    status = max(statuses, key=ORDER.index) if statuses else "info"
    headlines: dict[Status, str] = {
        "good": "It fits",
        "warn": "It should fit; measure it before you rely on it",
        "bad": "It does not fit",
        "info": "No budget was asked for",
    }
    headline = headlines[status]
    if status == "warn" and any(_measured_over(budget) for budget in report["budgets"]):
        headline = "Predicted to fit, measured over"
    if failed:
        status, headline = "bad", "A check failed: do not ship this"
    return Verdict(status, headline, _summary(asked, failed), rows)


def _row(budget: Mapping[str, Any]) -> BudgetRow:
    unit = budget["unit"]
    status, sure = _sure(budget)
    dense, pruned = budget["dense_predicted"], budget["pruned_predicted"]
    return BudgetRow(
        metric=budget["metric"],
        title=metric_title(budget["metric"]),
        asked=budget.get("asked_text"),
        limit=figure(budget["limit"], unit),
        dense=figure(dense, unit),
        pruned=figure(pruned, unit),
        share_of_dense=percent(pruned / dense) if dense and pruned is not None else "–",
        status=status,
        mark={"good": "fits", "warn": "fits, unsure", "bad": "over", "info": "not asked"}[status],
        sure=sure,
    )


def error_range(budget: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the predicted value less and plus the profile's held-out error; None where it is not known."""
    error, value = budget.get("relative_error_of_profile"), budget["pruned_predicted"]
    if error is None or value is None:
        return None
    return value * max(0.0, 1 - error), value * (1 + error)


def _sure(budget: Mapping[str, Any]) -> tuple[Status, str]:
    limit, unit, value = budget["limit"], budget["unit"], budget["pruned_predicted"]
    measured = _measured_text(budget)
    if limit is None:
        return "info", measured or "Reported for comparison."
    if value is None:
        return "warn", "There is no prediction to compare with the limit."
    if not budget["fits"]:
        return "bad", f"Predicted {figure(value, unit)}, over the limit of {figure(limit, unit)}."
    over = _measured_over(budget)
    if over:
        return "warn", f"{measured} {over}"
    span, error = error_range(budget), budget.get("relative_error_of_profile")
    tail = f" {measured}" if measured else ""
    if error == 0:
        return "good", "A count, not an estimate." + tail
    if span is None:
        return "warn", "The profile's error for this network is not known: measure on the device." + tail
    ends = f"{figure(span[0], unit)} to {figure(span[1], unit)}"
    if span[1] <= limit:
        return (
            "good",
            f"Predicted; with the profile's error of {percent(error)}: {ends}, within the limit." + tail,
        )
    if measured:
        return "good", f"{measured} The prediction alone ({ends}) would not settle it."
    return (
        "warn",
        f"The limit lies inside the profile's error of {percent(error)} ({ends}): measure on the device.",
    )


def _measured_text(budget: Mapping[str, Any]) -> str:
    value = budget.get("pruned_measured")
    if value is None:
        return ""
    ratio = measured_ratio(budget)
    share = f", {ratio:.2f} of dense" if ratio is not None else ""
    return f"Measured: {figure(value, budget['unit'])}{share}."


def measured_ratio(budget: Mapping[str, Any]) -> float | None:
    """Return measured pruned over measured dense: the paired ratio where the run took one."""
    ratio = (budget.get("measurement") or {}).get("ratio")
    if ratio is not None:
        return ratio
    dense, pruned = budget.get("dense_measured"), budget.get("pruned_measured")
    return pruned / dense if dense and pruned is not None else None


def asked_fraction(budget: Mapping[str, Any]) -> float | None:
    """Return 0.6 for a budget that was asked for as `60%` of dense; None for an absolute one."""
    text = (budget.get("asked_text") or "").strip()
    if not text.endswith("%"):
        return None
    try:
        return float(text[:-1]) / 100
    except ValueError:
        return None


def _measured_over(budget: Mapping[str, Any]) -> str:
    """Return a sentence if the measurement is over the limit, in the terms the budget was asked in."""
    fraction, ratio = asked_fraction(budget), measured_ratio(budget)
    if budget["limit"] is None:
        return ""
    if fraction is not None and ratio is not None:
        if ratio <= fraction:
            return ""
        low = (budget.get("measurement") or {}).get("ratio_low")
        spread = " (but within the spread of the timing)" if low is not None and low <= fraction else ""
        return f"That is over the {percent(fraction, 0)} asked for{spread}; the prediction is not."
    value = budget.get("pruned_measured")
    if value is None or value <= budget["limit"]:
        return ""
    return f"That is over the limit of {figure(budget['limit'], budget['unit'])}; the prediction is not."


def _summary(asked: list[BudgetRow], failed: list[str]) -> str:
    if failed:
        return "Failed: " + ", ".join(failed) + "."
    if not asked:
        return "The figures below compare the dense and the pruned network."
    return " ".join(f"{row.title} {row.pruned} of {row.limit}: {row.sure}" for row in asked)


def wilson(share: float, count: int | None, z: float = 1.96) -> tuple[float, float] | None:
    """Return the 95 % Wilson interval of a share observed on `count` samples (Wilson 1927)."""
    if not count or not 0 <= share <= 1:
        return None
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def interval_of(accuracy: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure: the metric's own, else of a share of right answers Wilson's."""
    found, value = (accuracy.get("intervals") or {}).get(key), accuracy.get(key)
    if found is not None:
        return found[0], found[1]
    top1 = accuracy.get("metric", TOP1) in (None, TOP1)  # tables of sweeps did not name it
    return wilson(value, accuracy.get("n_test")) if value is not None and top1 else None


def accuracy_cost(accuracy: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Return what pruning cost in accuracy and against what: ("−0.3 points", "the dense control ...")."""
    if not accuracy or accuracy.get("pruned") is None:
        return None
    for key, name in (
        ("control", "the dense network with the same fine-tuning"),
        ("base", "the network as given"),
    ):
        if accuracy.get(key) is not None:
            return Headline.of(accuracy).gap(accuracy["pruned"] - accuracy[key]), name
    return None
