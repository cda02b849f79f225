"""Cells that may lose whole branches: the trace, the base and the control are still everybody's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.small_sweep import DEVICES, points, small_grid, subject
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.measure import load_profile
from dtp_edge.run.options import NOBODY
from dtp_edge.sweeps.common import SHARED, Common, Subject, profile_path
from dtp_edge.transport import branch_losses


class Residual(nn.Module):
    """`[B, 1, 2, 3] -> [B, 3]`, with two blocks that can go."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.last = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x.flatten(1))))
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


def residual_subject() -> Subject:
    usual = subject()
    torch.manual_seed(4)
    return replace(usual, model=Residual())


def test_a_cell_without_branches_ends_as_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    real = branch_losses.losses_of
    monkeypatch.setattr(branch_losses, "losses_of", lambda *a, **k: measured.append(1) or real(*a, **k))
    grid, folder = small_grid("70%", "30%"), tmp_path / "sweep"
    for name in DEVICES:
        path = profile_path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(load_profile(name).document))
    threads = torch.get_num_threads()
    made = Common(residual_subject(), grid, folder, threads)
    made.share(NOBODY)
    cells = [cell for cell in grid.cells() if cell.device == DEVICES[0]]
    ended = {cell.id: made.run(cell) for cell in cells}
    assert {outcome["state"] for outcome in ended.values()} == {"done"}
    shared = sorted(p.name.split("-")[0] for p in (folder / SHARED).iterdir())
    assert shared == ["base", "control", "devices", "scores"]
    by_then = len(measured)
    other = next(cell for cell in grid.cells() if cell.device == DEVICES[1])
    assert made.run(other)["state"] == "done"
    assert len(measured) == by_then  # another device measures nothing
    gone = {}
    for cell in cells:
        report = json.loads((folder / "cells" / cell.id / "report.json").read_text())
        assert {row["name"] for row in report["depth"]["branches"]} == {"blocks.0", "blocks.1"}
        gone[cell.id] = sum(row["gone"] for row in report["depth"]["branches"])
    shallow = next(cell for cell in cells if gone[cell.id])
    one = residual_subject()
    dtp.prune_for_device(
        one.model,
        one.example_inputs,
        device=shallow.device,
        budget=shallow.budget,
        data=points(),
        recipe=one.options.recipe,
        out=tmp_path / "alone",
    )
    for name in ("model.onnx", "widths.json", "curve.csv"):
        made_here = (folder / "cells" / shallow.id / name).read_bytes()
        assert made_here == (tmp_path / "alone" / name).read_bytes(), name
