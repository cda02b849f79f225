"""Two processes (gloo) with branches and distilled block outputs: both end with the same network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_processes_drop_the_same_branches(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="the train extra installs accelerate")
    child = Path(__file__).with_name("child_depth.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    subprocess.run([sys.executable, *launch, str(child), str(tmp_path)], env=environment, check=True)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["world"] == 2
    assert first == second
    assert [name for name, (kept, _) in first["widths"].items() if name.endswith("branch") and not kept]
    assert (tmp_path / "run" / "model.onnx").is_file()
