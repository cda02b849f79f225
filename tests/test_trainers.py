"""The pruned network in the trainers of others: the examples, on a setting small enough to wait for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.small_yolo import LAYERS, pictures

pytestmark = pytest.mark.more
EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(folder / "settings")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def shares(said: str, word: str) -> float:
    return float(re.findall(rf"{word} ([0-9.]+)", said)[0].rstrip("."))


def test_ultralytics(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics", exc_type=Exception)
    import yaml

    data = pictures(tmp_path / "set", {"train": 16, "val": 8})
    network = tmp_path / "small.yaml"
    network.write_text(yaml.safe_dump(LAYERS))
    given = ["--network", str(network), "--data", str(data), "--image-size", "64", "--out", "run"]
    said = run("yolo_trainer", *given, folder=tmp_path)
    pruned = int(re.findall(r"a DetectionModel, (\d+) parameters", said)[0])
    assert int(re.findall(r"trained on: (\d+)", said)[0]) >= pruned
    assert "mAP 50-95" in said
    assert (tmp_path / "run/on/weights/last.onnx").is_file()


def test_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers", exc_type=Exception)
    said = run("hf_trainer", "--steps", "60", folder=tmp_path)
    assert "a DistilBertForSequenceClassification" in said
    assert shares(said, "trained on") > 0.7
    assert "run: (3, 2)" in said


def test_lightning(tmp_path: Path) -> None:
    pytest.importorskip("lightning", exc_type=Exception)
    said = run("lightning_loop", "--steps", "60", folder=tmp_path)
    assert shares(said, "tuned accuracy") > 0.8
