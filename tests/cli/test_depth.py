"""--depth and --no-depth: what can be reached with whole blocks, and the words at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dtp_edge import cli

Call = Callable[..., tuple[int, str, str]]
NET = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


def build():
    torch.manual_seed(0)
    blocks = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), Block(), Block(), Block())
    return nn.Sequential(blocks, nn.Flatten(), nn.Linear(16 * 64, 10)), torch.zeros(1, 3, 8, 8)
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


def smallest(out: str) -> float:
    (entry,) = json.loads(out)
    return next(row["smallest"] for row in entry["rows"] if row["metric"] == "latency_ms")


def test_a_plan_knows_what_depth_can_reach(call: Call) -> None:
    found = {}
    for words in (("--depth",), ("--no-depth",), ()):
        code, out, _ = call("--latency", "70%", "--plan", "--json", *words)
        assert code == 0
        found[words] = smallest(out)
    assert found[("--depth",)] < found[("--no-depth",)] == found[()]


def test_a_run_says_which_branches_went(call: Call) -> None:
    limit = f"{1.05 * smallest(call('--latency', '70%', '--plan', '--json', '--depth')[1])}ms"
    code, out, err = call("--latency", limit, "--depth", "--out", "run")
    assert code == 0, err
    assert "branches" in out
    assert "3 of 3 went: 0.2 (" in out.replace("\n", " ")
    code, _, err = call("--latency", limit, "--no-depth", "--out", "other")
    assert code == 3
    assert "cannot be reached" in err


def test_an_excluded_block_stays(call: Call) -> None:
    code, out, _ = call("--latency", "70%", "--depth", "--exclude", "0.3", "--out", "run", "--json")
    assert code == 0
    names = {branch["name"] for branch in json.loads(out)["depth"]["branches"]}
    assert names == {"0.2", "0.4"}
