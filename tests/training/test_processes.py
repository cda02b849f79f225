"""Two processes (gloo) reach the same budget, agree with each other, and learn as one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _run(folder: Path, processes: int) -> list[dict[str, object]]:
    folder.mkdir()
    launch = (
        []
        if processes == 1
        else ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    )
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path]),
    }
    subprocess.run(
        [sys.executable, *launch, str(HERE / "child_two.py"), str(folder)], env=environment, check=True
    )
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    (one,) = _run(tmp_path / "one", 1)
    first, second = _run(tmp_path / "two", 2)
    assert first["world"] == 2
    assert first == second  # the same widths, weights and accuracies in both
    assert abs(first["accuracy"]["pruned"] - one["accuracy"]["pruned"]) < 0.05
    assert first["accuracy"]["pruned"] > 0.8
