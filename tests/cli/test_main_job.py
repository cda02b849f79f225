"""The README's training command, small: every phase, two epochs, the default recipe but for the batch."""

from __future__ import annotations

import csv
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dtp_edge import cli, load_pruned
from dtp_edge.zoo import create

STEPS = {"base": 21, "fine-tune": 14, "control": 14}  # at 7 an epoch


def coloured(folder: Path) -> None:
    """CIFAR-10's own layout; each class has a colour of its own under much noise."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    random = np.random.default_rng(0)
    colours = random.uniform(60, 200, (10, 3))
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = np.arange(50) % 10
        pixels = colours[labels][:, :, None] + random.normal(0, 40, (50, 3, 1024))
        data = pixels.clip(0, 255).astype(np.uint8).reshape(50, 3072)
        (batches / name).write_bytes(pickle.dumps({b"data": data, b"labels": labels.tolist()}))


def test_resnet20_on_cifar10_through_every_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-20's padded shortcuts cannot be cut in place: what is fine-tuned is a graph of operators."""
    monkeypatch.chdir(tmp_path)
    coloured(tmp_path / "DIR")
    torch.manual_seed(0)
    save_file(create("resnet20").state_dict(), "resnet20.safetensors")
    words = [
        "prune",
        *("resnet20", "--weights", "resnet20.safetensors", "--data", "cifar10:DIR", "--out", "out"),
        *("--device", "rpi4-ncnn-fp32-1t", "--latency", "50%", "--epochs", "2"),
        *("--set", "base_epochs=3", "--set", "batch_size=32"),
    ]
    assert cli.run(cli.cli, words, "dtp-edge") == 0

    with open("out/curve.csv") as file:
        rows = list(csv.DictReader(file))
    assert {phase: sum(row["phase"] == phase for row in rows) for phase in STEPS} == STEPS
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert not any(row.get("went_back_from") for row in rows)

    report = json.loads(Path("out/report.json").read_text())
    assert all(check["passed"] for check in report["checks"])
    assert not any("diverged" in text for text in report["warnings"])
    accuracy = report["accuracy"]
    assert min(accuracy["base"], accuracy["control"], accuracy["pruned"]) > 0.3  # ten classes
    latency = next(b for b in report["budgets"] if b["metric"] == "latency_ms")
    assert latency["pruned_predicted"] <= latency["limit"]
    assert load_pruned("out").eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
