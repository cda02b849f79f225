"""kill -9 of the whole command at random moments; --resume ends in the result of the run that lived."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = "from dtp_edge.cli import prune_main; import sys; sys.argv[0] = 'prune-for-device'; prune_main()"
NET = """
from torch import nn
import torch


def build():
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1)]
    parts += [nn.Conv2d(16, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU()]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)]
    return nn.Sequential(*parts), torch.zeros(1, 1, 8, 8)
"""


def _start(folder: Path, epochs: int, *more: str) -> subprocess.Popen[bytes]:
    words = ["net.py:build", "--data", "digits", "--device", "rpi4-ncnn-fp32-1t", "--macs", "50%", "-q"]
    words += ["--epochs", str(epochs), "--set", "base_epochs=2", "--set", "batch_size=32", "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", START, *words, *more], cwd=folder, env=environment)


@pytest.mark.parametrize(("epochs", "kills"), [(2, 1), pytest.param(8, 5, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed(tmp_path: Path, epochs: int, kills: int) -> None:
    pytest.importorskip("sklearn")
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
        (folder / "net.py").write_text(NET)
    began = time.monotonic()
    assert _start(folders[0], epochs).wait() == 0
    whole = time.monotonic() - began
    rng, done = random.Random(time.time_ns()), 0
    run, states = folders[1] / "run", folders[1] / "run" / "checkpoint"
    while not (run / "report.json").exists():  # else killed on its way out: what is there is whole
        begun = any(states.glob("*.safetensors"))
        child = _start(folders[1], epochs, *(["--resume"] if begun else []))
        while done == 0 and child.poll() is None and not any(states.glob("*.safetensors")):
            time.sleep(0.02)
        try:
            life = rng.uniform(0, 0.5 if done else 0.2) * whole  # the first: from its first checkpoint
            assert child.wait(timeout=life if done < kills else None) == 0
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            done += 1
    assert done >= 1
    reports = [json.loads((folder / "run" / "report.json").read_text()) for folder in folders]
    assert reports[0]["accuracy"] == reports[1]["accuracy"]
    assert reports[0]["groups"] == reports[1]["groups"]
    for name in ("model.safetensors", "model.onnx"):
        assert (folders[0] / "run" / name).read_bytes() == (run / name).read_bytes()
