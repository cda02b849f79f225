"""Cells share what is theirs in common and nothing else: each ends as a run of its own, bit for bit."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_sweep import DEVICES, points, small_grid, subject

import dtp_edge as dtp
from dtp_edge.errors import InputError
from dtp_edge.files import writing
from dtp_edge.measure import load_profile
from dtp_edge.run.options import NOBODY
from dtp_edge.surgery.quick_fit import QuickFit
from dtp_edge.sweeps.common import SHARED, Common, profile_path
from dtp_edge.sweeps.grid import Grid
from dtp_edge.training import Recipe

USUAL = Recipe(base_epochs=2, tune_epochs=2, batch_size=32)
SAME = ("model.onnx", "model.safetensors", "widths.json", "curve.csv")


def common(folder: Path, grid: Grid, **options: Any) -> Common:
    for name in DEVICES:
        path = profile_path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(load_profile(name).document))
    threads = torch.get_num_threads()
    try:
        return Common(subject(**options), grid, folder, 1)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Common, dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("sweep")
    grid = small_grid("60%", "40%")
    made = common(folder, grid)
    made.share(NOBODY)
    return made, {cell.id: made.run(cell) for cell in (grid.cells()[1], grid.cells()[2])}


def test_a_cell_ends_as_a_run_of_its_own(swept: Any, tmp_path: Path) -> None:
    made, ended = swept
    cell = made.grid.cells()[2]  # the second that ran in the same traced network
    assert ended[cell.id]["state"] == "done"
    one = subject()
    dtp.prune_for_device(
        one.model,
        one.example_inputs,
        device=cell.device,
        budget=cell.budget,
        data=points(),
        recipe=one.options.recipe,
        out=tmp_path,
    )
    folder = made.folder / "cells" / cell.id
    for name in SAME:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name
    reports = [json.loads((place / "report.json").read_text()) for place in (folder, tmp_path)]
    assert reports[0]["accuracy"] == reports[1]["accuracy"]
    assert reports[0]["checks"] == reports[1]["checks"]


def test_base_and_control_are_trained_once(swept: Any) -> None:
    made, ended = swept
    shared = made.folder / SHARED
    found = sorted(p.name.split("-")[0] for p in shared.iterdir())
    assert found == ["base", "control", "devices", "scores"]
    for name in ended:
        phases = {p.stem for p in (made.folder / "cells" / name / "checkpoint").glob("*.safetensors")}
        assert phases == {"masks", "fine-tune"}
    controls = {outcome["accuracy"]["control"] for outcome in ended.values()}
    assert len(controls) == 1
    assert None not in controls


def test_a_cell_is_priced_on_every_device(swept: Any) -> None:
    made, ended = swept
    cell = made.grid.cells()[1]
    outcome = ended[cell.id]
    assert set(outcome["on_devices"]) == set(DEVICES)
    own = outcome["on_devices"][cell.device]
    assert own == {metric: outcome["predicted"][metric] for metric in own}


def test_what_is_done_is_not_done_again(swept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, ended = swept
    monkeypatch.setattr(Common, "_pruned", lambda *_: pytest.fail("ran again"))
    assert made.run(made.grid.cells()[1]) == ended[made.grid.cells()[1].id]


def test_what_ends_a_cell_is_its_outcome_and_the_next_one_is_run(
    swept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = swept
    full, diverging, fine = small_grid("30%", "25%", "20%").cells()[:3]
    real = writing._flush

    def no_room(path: Path) -> None:
        if full.id in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path)

    monkeypatch.setattr(writing, "_flush", no_room)
    outcome = made.run(full)
    assert outcome["state"] == "failed"
    assert "No space left" in outcome["reason"]
    rates = {"mask_learning_rate": 1e30, "tune_learning_rate": 1e30}
    wild = Grid(made.grid.devices, made.grid.budgets, {"usual": rates})
    calm, made.grid = made.grid, wild
    outcome = made.run(diverging)
    made.grid = calm
    assert outcome["state"] == "failed"
    assert "no longer finite" in outcome["reason"] or "diverged" in outcome["reason"], outcome
    monkeypatch.setattr(Common, "_pruned", lambda *_: 1 / 0)
    outcome = made.run(fine)
    assert outcome["state"] == "failed"
    assert outcome["reason"].startswith("ZeroDivisionError")
    monkeypatch.undo()
    made.options = replace(made.options, data=None)
    assert made.run(fine)["state"] == "done"


def test_a_warm_start_begins_with_the_looser_masks(swept: Any) -> None:
    made, _ = swept
    made.options = subject().options
    loose, tight = made.grid.cells()[1], small_grid("40%", "20%").cells()[1]
    outcome = made.run(replace(tight, id="warm", parent=loose.id))
    assert outcome["state"] == "done"
    report = json.loads((made.folder / "cells" / "warm" / "report.json").read_text())
    steps = max(row["step"] for row in report["curves"] if row["phase"] == "masks")
    whole = json.loads((made.folder / "cells" / loose.id / "report.json").read_text())
    assert steps == max(row["step"] for row in whole["curves"] if row["phase"] == "masks") / 2
    first = next(row for row in report["curves"] if row["phase"] == "masks")
    assert (
        first["target_fraction"] < 0.4
    )  # the budget falls from that of the looser cell, not from the dense cost
    kept = [
        json.loads((made.folder / "cells" / n / "widths.json").read_text())["widths"]
        for n in (loose.id, "warm")
    ]
    assert all(kept[1][group][0] <= kept[0][group][0] for group in kept[0])


def test_without_masks_a_warm_start_is_refused_before_anything_runs(tmp_path: Path) -> None:
    made = common(tmp_path, small_grid("60%"), recipe=USUAL)
    with pytest.raises(InputError, match="learns none") as caught:
        made.require_masks()
    assert "masks=True" in str(caught.value.hint)
    common(tmp_path, small_grid("60%")).require_masks()  # the recipe of the other tests does


def test_cells_that_a_calibration_decides_on_share_trials_and_end_as_runs_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loose cell has two devices' worth of trials in common with the second."""
    made = common(tmp_path / "sweep", small_grid("60%", "40%"), recipe=USUAL)
    made.share(NOBODY, 1.0)
    cells = [made.grid.cells()[0], made.grid.cells()[2]]
    assert cells[0].device != cells[1].device
    assert made.run(cells[0])["state"] == "done"
    (file,) = (made.folder / SHARED).glob("trials-*.json")
    known, fitted = json.loads(file.read_text()), []

    def counted(self: QuickFit, cut: Any) -> list[Any]:
        fitted.append(cut)
        return fit(self, cut)

    fit = QuickFit.__call__
    monkeypatch.setattr(QuickFit, "__call__", counted)
    assert made.run(cells[1])["state"] == "done"
    assert len(json.loads(file.read_text())) == len(known) + len(fitted)
    shared = len(fitted)
    alone = subject(recipe=USUAL)
    dtp.prune_for_device(
        alone.model, alone.example_inputs, device=cells[1].device, budget=cells[1].budget,
        data=alone.options.data, recipe=USUAL, out=tmp_path / "alone",
    )  # fmt: skip
    assert len(fitted) - shared > shared, "the cell of its own makes all its trials"
    for name in SAME:
        folder = made.folder / "cells" / cells[1].id
        assert (folder / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
