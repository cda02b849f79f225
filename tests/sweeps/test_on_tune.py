"""Cells within a time, on Ray Tune: first all of them a little, then ASHA's choice of them further."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small_sweep import small_grid, subject

from dtp_edge.measure import load_profile
from dtp_edge.run.options import NOBODY
from dtp_edge.sweeps.cell_folder import cell_folder, outcome_of
from dtp_edge.sweeps.common import profile_path
from dtp_edge.sweeps.engines import Work
from dtp_edge.sweeps.on_ray import OnRay
from dtp_edge.sweeps.on_tune import OnTune

ROOT = Path(__file__).parents[2]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Work:
    """Six cells on one device, ready to run: base and control of the first rung are there."""
    pytest.importorskip("ray", reason="could not import 'ray'")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    grid = small_grid("80%", "70%", "60%", "50%", "40%", "30%")
    cells = [cell for cell in grid.cells() if cell.device == grid.devices[0]]
    for name in grid.devices:
        path = profile_path(tmp_path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(load_profile(name).document))
    made = Work(cells, subject, grid, tmp_path, 1)
    made.common().share(NOBODY, OnTune.first_length)
    return made


@pytest.mark.more
def test_every_cell_has_a_result_and_only_some_go_on(work: Work) -> None:
    engine = OnTune(OnRay("local", 1))
    found = [one for one in engine.run(replace(work, deadline=time.time() + 400)) if one is not None]
    ids = {cell.id for cell in work.cells}
    first, later = found[: len(ids)], found[len(ids) :]
    assert {name for name, _ in first} == ids
    assert {outcome["state"] for _, outcome in found} == {"done"}
    assert {outcome["length"] for _, outcome in first} == {OnTune.first_length}
    assert later
    reached = {name: outcome_of(cell_folder(work.folder, name))["length"] for name in ids}
    assert {name: outcome["length"] for name, outcome in found} == reached  # the last one counts
    whole = [name for name, length in reached.items() if length == 1.0]
    assert 1 <= len(whole) < len(ids)
