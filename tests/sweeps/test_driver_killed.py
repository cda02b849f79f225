"""kill -9 of the driver while cells run, then --resume: every cell is in the table, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import wait_for

from dtp_edge.report import read_sweep

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from helpers.small_sweep import DEVICES, PointNet, points
from dtp_edge.sweeps.driver import sweep
from dtp_edge.training import Recipe
from dtp_edge.transport import Budget
if __name__ == "__main__":
    torch.manual_seed(3)
    recipe = Recipe(base_epochs=2, mask_epochs=8, tune_epochs=8, batch_size=32)
    budgets = [Budget(macs=share) for share in ("70%", "55%", "40%")]
    how = {{"ray": "local"}} if sys.argv[2] == "ray" else {{"jobs": 2}}
    sweep(PointNet(), torch.zeros(1, 1, 2, 3), devices=DEVICES[:1], budgets=budgets, data=points(),
          recipe=recipe, out=sys.argv[1], cores=1, resume=True, **how)
"""


def start(folder: Path, how: str) -> subprocess.Popen[bytes]:
    script = folder.parent / "driver.py"
    script.write_text(DRIVER.format())
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen([sys.executable, str(script), str(folder), how], env=environment)


@pytest.mark.parametrize("how", ["processes", pytest.param("ray", marks=pytest.mark.more)])
def test_no_cell_is_lost_and_none_is_there_twice(tmp_path: Path, how: str) -> None:
    if how == "ray":
        pytest.importorskip("ray", reason="could not import 'ray'")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, "processes").wait() == 0
    driver = start(killed, how)
    wait_for(lambda: len(list(killed.glob("cells/*/outcome.json"))) >= 1 or driver.poll() is not None, 300)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    ended = {path.parent.name: path.stat().st_mtime_ns for path in killed.glob("cells/*/outcome.json")}
    assert 1 <= len(ended) < 3
    assert read_sweep(killed)["state"] == "running"
    assert start(killed, how).wait() == 0
    tables = [read_sweep(folder)["cells"] for folder in (whole, killed)]
    ids = [[row["id"] for row in table] for table in tables]
    assert ids[0] == ids[1]
    assert len(set(ids[1])) == len(ids[1]) == 3
    for one, other in zip(*tables, strict=True):
        assert other["state"] == "done"
        assert (one["predicted"], one["accuracy"]) == (other["predicted"], other["accuracy"])
        files = [folder / "cells" / one["id"] / "model.onnx" for folder in (whole, killed)]
        assert files[0].read_bytes() == files[1].read_bytes()
    for name, when in ended.items():  # what had ended was not run again
        assert (killed / "cells" / name / "outcome.json").stat().st_mtime_ns == when
