"""Keep ratios from the command line: read, planned, held to, and shown with the other budgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtp_edge import cli
from dtp_edge.report import read_report
from dtp_edge.report.verdict import judge

Call = Callable[..., tuple[int, str, str]]
NET = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, 10)), torch.zeros(1, 3, 8, 8)
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)

    def run(*arguments: str) -> tuple[int, str, str]:
        words = ["prune", "net.py:build", "--device", "rpi4-ncnn-fp32-1t", *arguments]
        code = cli.run(cli.cli, words, "dtp-edge")
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def rows(entry: dict[str, Any]) -> dict[str, Any]:
    return {row["metric"]: row for row in entry["rows"]}


def test_a_plan_shows_what_a_keep_ratio_asks(call: Call) -> None:
    code, out, _ = call("--keep", "50%", "--keep", "0=25%", "--plan", "--json")
    assert code == 0
    (entry,) = json.loads(out)
    channels = rows(entry)["kept_channels"]
    assert (channels["dense"], channels["asked"], channels["smallest"]) == (48, 24, 2)
    assert rows(entry)["layer_keep"]["dense"] == 400  # 32 channels where 8 may stay
    assert entry["widths"]["0"][0] <= 8
    assert sum(kept for kept, _ in entry["widths"].values()) <= 24
    assert entry["expected"]["layer_keep"] == 100 * entry["widths"]["0"][0] / 8
    text = call("--keep", "each=50%", "--plan")[1]
    assert any(line.startswith("keep ratio used") and line.endswith("yes") for line in text.splitlines())


def test_a_run_holds_to_its_keep_ratios_and_reports_them(call: Call, tmp_path: Path) -> None:
    code, out, err = call("--keep", "50%", "--keep", "each=75%", "--latency", "90%", "--out", "run")
    assert code == 0, err
    assert any(line.startswith("channels ") and line.endswith("fits") for line in out.splitlines())
    report = read_report(tmp_path / "run")
    budgets = {row["metric"]: row for row in report["budgets"]}
    kept = sum(group["kept"] for group in report["groups"])
    assert budgets["kept_channels"]["pruned_predicted"] == kept <= 24 == budgets["kept_channels"]["limit"]
    worst = max(group["kept"] / (0.75 * group["total"]) for group in report["groups"])
    assert budgets["layer_keep"]["pruned_predicted"] == pytest.approx(100 * worst)
    assert budgets["layer_keep"]["asked_text"] == "75% of every group"
    assert {row.metric: row.status for row in judge(report).budgets}["kept_channels"] == "good"
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Keep ratio used" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--keep", "50%", "--keep", "20%"), "two shares of all channels"),
        (("--keep", "each=50%", "--keep", "0=20%"), "each=SHARE is of every group"),
        (("--keep", "150%"), "more than the dense network"),
        (("--keep", "0="), "cannot read"),
        (("--keep", "half"), "cannot read"),
        (("--keep", "nan"), "cannot read"),
        (("--keep", "0=-3%"), "not a finite number above 0"),
        (("--keep", "head=50%"), "no group is called 'head'"),
    ],
)
def test_a_keep_ratio_that_means_nothing(call: Call, words: tuple[str, ...], said: str) -> None:
    code, _, err = call(*words, "--plan")
    assert code == 2
    assert said in " ".join(err.split())
    assert "next:" in err
