"""dtp.sweep: planned, run, shown, resumed."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_sweep import DEVICES, PointNet, small_grid, subject

import dtp_edge as dtp
from dtp_edge.cost.planners import planner_of
from dtp_edge.errors import BudgetError, InputError
from dtp_edge.measure import load_profile
from dtp_edge.profiles import Profile
from dtp_edge.profiles.profile import parse_profile
from dtp_edge.report import read_sweep
from dtp_edge.run.further_formats import wanted_formats
from dtp_edge.run.task import Task
from dtp_edge.run.traced import traced_for
from dtp_edge.sweeps.common import Common
from dtp_edge.sweeps.driver import plan_sweep
from dtp_edge.sweeps.grid import USUAL, Grid
from dtp_edge.transport import Budget

BUDGETS = [Budget(macs="60%"), Budget(macs="40%"), Budget(macs="0.01%")]


def without_linear() -> Profile:
    """A device that cannot cost this network: no kernel for its matrices."""
    document = json.loads(json.dumps(load_profile(DEVICES[1]).document))
    document["name"] = "no-linear"
    document["kernels"] = {"pool": document["kernels"]["pool"]}
    return parse_profile(document, where="no-linear")


def swept(out: Path, **options: Any) -> Any:
    torch.manual_seed(3)
    given: dict[str, Any] = {
        "devices": [DEVICES[0], without_linear()],
        "budgets": BUDGETS,
        "cores": 1,
    } | options
    return dtp.sweep(PointNet(), torch.zeros(1, 1, 2, 3), out=out, **given)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("sweep") / "out"
    return out, swept(out)


def test_every_cell_has_one_row_that_says_how_it_ended(done: Any) -> None:
    out, result = done
    states = {(row["device"], row["level"]): row["state"] for row in result.rows}
    assert len(result.rows) == len(states) == 6
    assert [states[DEVICES[0], level] for level in range(3)] == ["done", "done", "refused"]
    assert [states["no-linear", level] for level in range(3)] == ["refused"] * 3
    reasons = {row["id"]: row.get("reason") for row in result.rows if row["state"] == "refused"}
    assert all(reasons.values())
    assert any("cannot be reached" in reason for reason in reasons.values())
    assert read_sweep(out)["cells"] == json.loads(json.dumps(result.rows))
    assert read_sweep(out)["state"] == "done"
    page = (out / "sweep.html").read_text()
    assert all(row["id"] in page for row in result.rows)
    assert 'http-equiv="refresh"' not in page


def test_results_are_those_that_are_done(done: Any) -> None:
    out, result = done
    assert len(result.results) == 2
    for name, cell in result.results.items():
        row = next(row for row in result.rows if row["id"] == name)
        assert cell.report["budgets"][0]["metric"] in row["predicted"]
        assert cell.onnx.is_file()
        assert cell.module(torch.zeros(2, 1, 2, 3)).shape == (2, 3)
    assert f'href="cells/{name}/report.html"' in (out / "sweep.html").read_text()
    assert (out / "cells" / name / "report.html").is_file()


def test_resume_runs_what_is_left(done: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out, result = done
    first = next(iter(result.results))
    (out / "cells" / first / "outcome.json").unlink()  # as a driver that was killed leaves it
    ran = []
    real = Common._pruned
    monkeypatch.setattr(Common, "_pruned", lambda self, cell, *a: ran.append(cell.id) or real(self, cell, *a))
    again = swept(out, resume=True)
    assert ran == [first]
    assert [(r["id"], r["state"]) for r in again.rows] == [(r["id"], r["state"]) for r in result.rows]
    more = swept(out, resume=True, budgets=[*BUDGETS, Budget(macs="50%")])
    assert len(ran) == 2
    assert len(more.rows) == 8


def test_a_folder_of_another_sweep_is_left_alone(done: Any) -> None:
    out, _ = done
    with pytest.raises(InputError, match="holds a sweep already"):
        swept(out)
    with pytest.raises(InputError, match="another sweep: seed"):
        swept(out, resume=True, seed=1)


def test_where_no_cell_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="no cell of the sweep is feasible"):
        swept(tmp_path, devices=[without_linear()])
    assert all(row["state"] == "refused" for row in read_sweep(tmp_path)["cells"])


def test_a_time_that_is_over_leaves_cells_to_resume(tmp_path: Path) -> None:
    result = swept(tmp_path, devices=DEVICES[:1], within_seconds=0.0)
    assert [row["state"] for row in result.rows] == ["stopped", "stopped", "refused"]
    assert read_sweep(tmp_path)["state"] == "stopped"


def test_a_thousand_cells_are_planned_in_no_time() -> None:
    budgets = tuple(Budget(macs=f"{percent / 10}%") for percent in range(500, 1000))
    grid = Grid(DEVICES, budgets, {USUAL: {}})
    began = time.process_time()
    planned = plan_sweep(lambda: subject(data=None), grid, [load_profile(name) for name in DEVICES])
    assert time.process_time() - began < 60
    assert len(planned.rows) == len(planned.cells) == 1000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak < 2 * 2**30
    assert small_grid("50%").cells()[0].id != planned.cells[0].id


def test_a_cell_plans_ram_as_a_run_of_its_own() -> None:
    """Found when two changes met: a run judged RAM by LiteRT's plan, its sweep by the profile."""
    asked = subject(data=None, formats=wanted_formats("tflite", None, "litert"))
    budget, profile = Budget(ram="80%"), load_profile(DEVICES[0])
    planned = plan_sweep(lambda: asked, Grid(DEVICES[:1], (budget,), {USUAL: {}}), [profile])
    found = traced_for(asked.model, (asked.example_inputs,))
    alone, by_profile = (
        Task.of_traced(found, profile, budget, planner).limits["peak_ram_bytes"]
        for planner in (planner_of("litert"), None)
    )
    assert planned.rows[0]["limits"]["peak_ram_bytes"] == alone != by_profile
