"""The user's own loop, in three dialects, as a user would start it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("plain_loop", ()),
        pytest.param("lightning_loop", ("lightning",), marks=pytest.mark.slow),
        pytest.param("accelerate_loop", ("accelerate",), marks=pytest.mark.slow),
    ],
)
def test_example_runs(name: str, needs: tuple[str, ...], tmp_path: Path) -> None:
    for package in ("sklearn", *needs):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--steps", "150", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    dense, pruned = (float(v) for v in re.findall(r"accuracy (0\.\d+|1\.0+)", done.stdout))
    assert dense > 0.9
    assert pruned > dense - 0.05
    assert (tmp_path / "run" / "model.onnx").is_file()
