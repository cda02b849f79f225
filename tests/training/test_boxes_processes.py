"""A run on boxes: killed with -9 and resumed, and shared by two processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def command(folder: Path, hold: float, processes: int = 1) -> tuple[list[str], dict[str, str]]:
    launch = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    words = [
        sys.executable,
        *(launch if processes > 1 else []),
        str(HERE / "child_boxes.py"),
        str(folder),
        str(hold),
    ]
    paths = os.pathsep.join([str(HERE.parent), str(HERE.parents[1]), *sys.path])
    return words, os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}


def once(folder: Path, processes: int = 1) -> list[dict[str, Any]]:
    folder.mkdir()
    words, environment = command(folder, 0.0, processes)
    subprocess.run(words, env=environment, check=True)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    (wanted,) = once(tmp_path / "whole")
    folder, draw, kills = tmp_path / "killed", random.Random(4), 0
    folder.mkdir()
    words, environment = command(folder, 0.1)
    while not (folder / "rank0.json").exists():
        process = subprocess.Popen(words, env=environment)
        began = folder / "out/checkpoint/run.json"
        while kills < 2 and process.poll() is None and not began.exists():
            time.sleep(0.05)
        try:
            process.wait(draw.uniform(0.8, 1.6) if kills < 2 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0
    assert kills == 2
    assert json.loads((folder / "rank0.json").read_text()) == wanted


def test_two_processes_agree_and_learn_as_one(tmp_path: Path) -> None:
    """Not bit for bit as one: batch norms see half a batch each. The loss is told of each process's half."""
    (one,) = once(tmp_path / "one")
    first, second = once(tmp_path / "two", processes=2)
    assert first.pop("losses") != second.pop("losses")
    assert first == second
    assert abs(first["accuracy"]["pruned"] - one["accuracy"]["pruned"]) < 0.3 * one["accuracy"]["base"]
