"""Benchmarks: every command starts, every page is what its rows say, no row goes without its origin."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import dtp_edge
from benchmarks.common import origin as origins
from benchmarks.common.experiment import RESULTS, Experiment
from benchmarks.common.page import between
from benchmarks.experiments import EXPERIMENTS, commands, index

ROOT = Path(__file__).parents[1]
PAGES = [name for name, experiment in EXPERIMENTS.items() if experiment.page]
WORKERS = {f"benchmarks.runtimes.{name}" for name in ("timer", "maker", "bound_calls", "litert_counters")}
# started by other commands in a runtime's own Python, never by a person


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_its_rows_say(name: str) -> None:
    page = RESULTS / EXPERIMENTS[name].page
    assert EXPERIMENTS[name].render() == page.read_text(encoding="utf-8"), (
        "python -m benchmarks.experiments pages"
    )


def test_the_index_is_what_the_rows_say() -> None:
    assert index() == (RESULTS / "README.md").read_text(encoding="utf-8"), (
        "python -m benchmarks.experiments pages"
    )


def test_a_page_follows_a_changed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    before = EXPERIMENTS["mcu_accuracy"].render()
    rows = EXPERIMENTS["mcu_accuracy"].read()
    rows[1]["test"] -= 0.3
    monkeypatch.setattr(Experiment, "read", lambda self, path=None: rows)
    assert EXPERIMENTS["mcu_accuracy"].render() != before


def test_every_command_is_declared_and_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    declared = {experiment.module for experiment in EXPERIMENTS.values()}
    assert {*commands()} == declared | WORKERS | {"benchmarks.experiments"}
    for module in sorted(declared):
        monkeypatch.setattr(sys, "argv", [module, "--help"])
        monkeypatch.delitem(sys.modules, module, raising=False)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        assert ended.value.code == 0, module
        said = capsys.readouterr().out
        assert said.lower().startswith("usage:"), module
        assert "python benchmarks/" not in said, module


def test_a_command_starts_from_the_root_of_the_checkout() -> None:
    command = [sys.executable, "-m", "benchmarks.runtimes.faults", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--runtimes" in done.stdout


def test_a_row_says_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtp_edge, "__version__", "9.8.7")  # the code that ran, whatever pip says
    experiment = Experiment("benchmarks.none", "x.jsonl", packages=("torch", "no-such-package"))
    path = tmp_path / "x.jsonl"
    experiment.append({"test": 0.5, "commit": "forged"}, path)
    (row,) = experiment.read(path)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert head.stdout.startswith(row["commit"].split()[0])
    assert (row["test"], row["dtp-edge"], row["no-such-package"]) == (0.5, "9.8.7", "absent")
    assert re.fullmatch(r".+, \d+ threads?", row["machine"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["date"])
    assert origins.is_known(row)


@pytest.mark.parametrize("file", ["x.jsonl", "x.csv", "x.json"])
def test_no_result_without_an_origin(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Experiment("benchmarks.none", file, key=("network",))
    write = {"x.jsonl": experiment.append, "x.json": experiment.document}.get(file)
    monkeypatch.setattr(origins, "ROOT", tmp_path)  # no checkout there
    with pytest.raises(origins.NoOrigin, match="commit"):
        write({"network": "a"}, tmp_path / file) if write else experiment.merge(
            [{"network": "a"}], tmp_path / file
        )
    monkeypatch.setattr(origins, "commit", lambda: "abc")
    monkeypatch.setattr(origins, "cpu_model", lambda: "")
    monkeypatch.setattr(dtp_edge, "__version__", " ")
    with pytest.raises(origins.NoOrigin, match="dtp-edge"):
        write({"network": "a"}, tmp_path / file) if write else experiment.merge(
            [{"network": "a"}], tmp_path / file
        )
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_table_keep_their_own_origin(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("# 2026-11-23, x86_64\nnetwork,ms\na,1\nb,2\n")
    experiment = Experiment("benchmarks.none", "x.csv", key=("network",))
    rows = experiment.merge([{"network": "b", "ms": 3}], path)
    assert [r["network"] for r in rows] == ["a", "b"]
    old, new = experiment.read(path)
    assert (old["ms"], old["origin"], origins.is_known(old)) == ("1", "2026-11-23, x86_64", False)
    assert (new["ms"], origins.is_known(new)) == ("3", True)
    assert f"dtp-edge {dtp_edge.__version__}" in new["origin"]


def test_only_the_experiment_writes_rows() -> None:
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert "sys.path.insert" not in text, path
        assert "from helpers" not in text, path
        if path.parent.name != "common":
            assert not re.search(r"csv\.(DictW|w)riter|\.open\(\"[aw]", text), path


def test_old_rows_are_marked() -> None:
    rows = EXPERIMENTS["accuracy"].read()
    unknown = sum(not origins.is_known(row) for row in rows)
    page = (RESULTS / "accuracy.md").read_text(encoding="utf-8")
    assert (f"{unknown} of {len(rows)} rows do not say which commit" in page) == (unknown > 0)
    assert all("commit" in json.dumps(row) for row in rows if row["dtp-edge"] != "absent")


def test_only_the_part_between_is_replaced() -> None:
    assert between("a [old] b [c]", "[", "]", "new") == "a [new] b [c]"
    with pytest.raises(ValueError, match="no part"):
        between("a", "[", "]", "new")
