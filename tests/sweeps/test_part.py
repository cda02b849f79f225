"""Cells that prune a part of a network: the whole is trained once for all, and each begins with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_part import Net, Own, data

import dtp_edge as dtp
from dtp_edge.sweeps.driver import sweep
from dtp_edge.training import Recipe

DEVICE, OTHER = "rpi4-ncnn-fp32-1t", "rpi5-ncnn-fp16-1t"


def recipe() -> Recipe:
    return Recipe(base_epochs=2, mask_epochs=2, tune_epochs=2, batch_size=16)


def given(**options: Any) -> dict[str, Any]:
    return {"data": data(), "objective": Own(), "part": "body", "recipe": recipe(), "depth": False} | options


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("part") / "sweep"
    return sweep(
        Net(), ([torch.rand(3, 12, 12)],), devices=[DEVICE, OTHER], budgets=budgets("60%", "40%"), out=out,
        cores=torch.get_num_threads(), warm=False, **given(),
    )  # fmt: skip


def budgets(*shares: str) -> list[dtp.Budget]:
    return [dtp.Budget(latency=share) for share in shares]


def test_a_cell_ends_as_a_run_of_its_own(swept: Any, tmp_path: Path) -> None:
    assert [row["state"] for row in swept.rows] == ["done"] * 4
    row = swept.rows[1]
    dtp.prune_for_device(
        Net(), ([torch.rand(3, 12, 12)],), device=row["device"], budget=budgets("60%", "40%")[row["level"]],
        out=tmp_path, **given(),
    )  # fmt: skip
    folder = swept.results[row["id"]].out
    for name in ("model.onnx", "widths.json", "curve.csv"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name
    reports = [json.loads((place / "report.json").read_text()) for place in (folder, tmp_path)]
    assert reports[0]["accuracy"] == reports[1]["accuracy"]
    assert reports[0]["model"]["part"] == "body"
    assert set(row["on_devices"]) == {DEVICE, OTHER}


def test_a_warm_start_takes_the_whole_over(swept: Any, tmp_path: Path) -> None:
    out = tmp_path / "warm"
    warm = sweep(
        Net(), ([torch.rand(3, 12, 12)],), devices=[DEVICE], budgets=budgets("60%", "40%"), out=out,
        cores=torch.get_num_threads(), warm=True, **given(),
    )  # fmt: skip
    assert [row["state"] for row in warm.rows] == ["done"] * 2, warm.rows
    loose, tight = (warm.results[row["id"]].report for row in warm.rows)
    steps = [max(c["step"] for c in one["curves"] if c["phase"] == "masks") for one in (loose, tight)]
    assert steps[1] == steps[0] / 2
