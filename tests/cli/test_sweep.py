"""Many cells from the command line: what is read as a sweep, its plan, its run, its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtp_edge import cli
from dtp_edge.cli.sweep_options import axes, is_many, per_cell, seconds_of
from dtp_edge.errors import InputError

DEVICE = "rpi4-ncnn-fp32-1t"
TWO = f"{DEVICE},rpi5-ncnn-fp16-1t"
NET = """
import torch
from torch import nn
def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
    return net, torch.randn(1, 1, 2, 3)
"""
NOTHING: dict[str, Any] = dict.fromkeys(
    (
        "device",
        "plan",
        "latency",
        "ram",
        "flash",
        "macs",
        "params",
        "energy",
        "sweep",
        "jobs",
        "ray",
        "within",
        "per_cell",
        "warm",
    )
)


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.run(cli._load("prune"), ["net.py:build", *words], "prune-for-device")
        return code, *capsys.readouterr()

    return run


def test_what_is_a_sweep() -> None:
    assert not is_many(NOTHING | {"device": "a", "latency": "50%"})
    assert not is_many(NOTHING | {"device": "a,b", "latency": "50%", "plan": True})
    assert is_many(NOTHING | {"device": "a,b", "latency": "50%"})
    assert is_many(NOTHING | {"device": "a", "latency": "50%,40%", "plan": True})
    assert is_many(NOTHING | {"device": "a", "latency": "50%", "jobs": 2})
    devices, budgets = axes(NOTHING | {"device": "a, b,", "latency": "50%,40%", "flash": "1MiB,2MiB"})
    assert devices == ["a", "b"]
    assert budgets == [
        {"latency": latency, "flash": flash} for latency in ("50%", "40%") for flash in ("1MiB", "2MiB")
    ]


def test_times_and_shares() -> None:
    assert [seconds_of(t) for t in ("90min", "2h", "1h 30min", "45s", "0.5d", None)] == [
        5400, 7200, 5400, 45, 43200, None,
    ]  # fmt: skip
    assert per_cell("cores=2,gpus=0.5") == {"cores": 2.0, "gpus": 0.5}
    assert per_cell(None) == {}
    for wrong in ("2", "h", "2 hours", "2h later"):
        with pytest.raises(InputError, match="cannot read"):
            seconds_of(wrong)
    for wrong in ("cores=0", "cores=1.5", "cpus=2", "gpus"):
        with pytest.raises(InputError, match="cannot read"):
            per_cell(wrong)


def test_the_plan_is_one_table(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = call("--device", TWO, "--macs", "60%,0.001%", "--plan")
    assert code == 0
    lines = out.splitlines()
    assert sum("yes" in line for line in lines) == sum(" no " in f"{line} " for line in lines[:5]) == 2
    assert "4 cells, 2 of them cannot be had." in out
    assert max(map(len, lines)) <= 80
    code, out, _ = call("--device", TWO, "--macs", "60%,0.001%", "--plan", "--json")
    assert [row["state"] for row in json.loads(out)] == ["waiting", "refused"] * 2
    assert not Path("runs").exists()


def test_a_sweep_in_a_file_is_run_and_its_page_made_again(
    call: Callable[..., tuple[int, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("s.toml").write_text(
        f'devices = ["{DEVICE}"]\n[[budgets]]\nmacs = "60%"\n[[budgets]]\nmacs = "0.001%"\n'
    )
    code, out, err = call("--sweep", "s.toml", "--out", "out")
    assert code == 0, err
    assert "done" in out
    assert "refused" in out
    assert (Path("out") / "cells" / f"{DEVICE}_macs-60pct" / "report.html").is_file()
    (Path("out") / "sweep.html").unlink()
    assert cli.run(cli.cli, ["report", "out"], "dtp-edge") == 0
    assert "sweep.html" in capsys.readouterr().out
    assert (Path("out") / "sweep.html").is_file()
    code, _, err = call("--sweep", "s.toml", "--out", "out")
    assert code == 2
    assert "--resume" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--device", TWO), 2, "name a budget"),
        (("--sweep", "nothing.toml"), 2, "no such file"),
        (("--device", f"{DEVICE},{DEVICE}", "--macs", "50%"), 2, "given twice"),
        (("--device", TWO, "--macs", "50%", "--within", "soon"), 2, "--within"),
        (("--device", TWO, "--macs", "0.001%,0.002%"), 3, "no cell"),
        (("--device", TWO, "--macs", "50%", "--resume", "--out", "none"), 2, "holds no checkpoint"),
    ],
)
def test_refusals(
    call: Callable[..., tuple[int, str, str]], words: tuple[str, ...], code: int, said: str
) -> None:
    found, _, err = call(*words)
    assert found == code
    assert said in " ".join(err.split())
