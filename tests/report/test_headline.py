"""Reports of other tasks tell what they are judged by in its own words, unit and direction."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.other_headlines import PSNR, in_decibels, in_errors
from helpers.sweep_table import sweep_table

from dtp_edge.metrics import Headline
from dtp_edge.report import compare_reports, validate_report, write_report, write_sweep
from dtp_edge.report.frontier import devices_of, for_all, front
from dtp_edge.report.page import render_page
from dtp_edge.report.verdict import accuracy_cost, interval_of


def text_of(page: str) -> str:
    plain = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", plain).split())


def test_the_page_is_in_decibels(report: dict[str, Any]) -> None:
    other = in_decibels(report)
    validate_report(other)
    text, figures = text_of(render_page(other)), other["accuracy"]
    assert "What it cost in PSNR" in text
    assert f"{figures['pruned']:.2f} dB" in text
    low, high = figures["intervals"]["pruned"]
    assert f"{low:.1f} dB to {high:.1f} dB" in text
    gap = Headline.of(PSNR).gap(figures["pruned"] - figures["control"])
    assert gap.endswith(" dB")
    assert accuracy_cost(figures) == (gap, "the dense network with the same fine-tuning")
    assert gap in text
    assert interval_of(figures, "base") is None  # none was told, and Wilson's is one of shares
    assert "top-1" not in text


def test_shares_that_are_better_low_say_so(report: dict[str, Any]) -> None:
    other = in_decibels(report)
    other["accuracy"] |= {
        "metric": "character error rate",
        "unit": "%",
        "higher_is_better": False,
        "pruned": 0.125,
    }
    text = text_of(render_page(other))
    assert "character error rate (lower is better)" in text
    assert "12.50 %" in text


def test_a_report_of_before_is_top1_in_percent(report: dict[str, Any]) -> None:
    old = json.loads(json.dumps(report))
    for name in ("unit", "decimals", "intervals"):
        old["accuracy"].pop(name, None)
    text = text_of(render_page(old))
    assert "What it cost in accuracy" in text
    assert f"{100 * old['accuracy']['pruned']:.2f} %" in text
    assert interval_of(old["accuracy"], "pruned") is not None


def test_runs_are_compared_with_their_like(report: dict[str, Any], tmp_path: Path) -> None:
    """A run in decibels is no match for one in percent; of errors the lower is on the front."""
    write_report(tmp_path / "a", report)
    write_report(tmp_path / "b", in_decibels(report))
    few, many = (in_decibels(report) for _ in range(2))
    for name, other, value in (("c", few, 0.1), ("d", many, 0.2)):
        other["accuracy"] |= {
            "metric": "errors",
            "unit": "%",
            "higher_is_better": False,
            "pruned": value,
            "int8": None,
        }
        write_report(tmp_path / name, other)
    found = compare_reports([tmp_path / name for name in "abcd"])
    marks = [row["pareto"] for row in found.rows]
    assert marks == [True, True, True, False]
    assert " dB" in found.table
    assert found.html.count("<section") >= 3


def test_the_front_of_a_sweep_in_errors_is_that_of_what_is_right(tmp_path: Path) -> None:
    right = sweep_table(3, 12)
    wrong = in_errors(right)
    for one, other in zip(devices_of(right), devices_of(wrong), strict=True):
        assert one["front"] == other["front"]
        assert (one["knee"] or {}).get("id") == (other["knee"] or {}).get("id")
    for one, other in zip(for_all(right), for_all(wrong), strict=True):
        assert (one["cell"] or {}).get("id") == (other["cell"] or {}).get("id")
        assert (one["worst"] or {}).get("device") == (other["worst"] or {}).get("device")
    assert len(front(wrong["cells"])) > 1
    text = text_of(write_sweep(tmp_path, wrong).read_text())
    assert "character error rate" in text


@pytest.mark.parametrize("other", [in_decibels])
def test_what_to_do_next_is_told_in_the_same_unit(other: Any, report: dict[str, Any]) -> None:
    from dtp_edge.run.facts_next import _accuracy

    found = other(report)
    found["accuracy"] |= {"control": 31.0, "base": 31.0, "at_cut": 30.0, "pruned": 29.0, "int8": 28.0}
    texts = " ".join(_accuracy(found))
    assert "2.00 dB are lost against the dense control" in texts
    assert "int8 costs 1.00 dB" in texts
    found["accuracy"] |= {
        "higher_is_better": False,
        "unit": "%",
        "control": 0.10,
        "pruned": 0.15,
        "int8": None,
    }
    assert "5.0 points are lost" in " ".join(_accuracy(found))
    found["accuracy"] |= {"pruned": 0.05, "at_cut": 0.05}
    assert not _accuracy(found)
