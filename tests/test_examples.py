"""The examples of real tasks, on a setting small enough to wait for."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(
    name: str, *arguments: str, needs: tuple[str, ...] = (), environment: dict[str, str] | None = None
) -> str:
    for package in needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr, done.stderr[-3000:]
    return done.stdout


def finished(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("model.onnx", "report.json", "report.html"))


def test_onnx_in_onnx_out(tmp_path: Path) -> None:
    said = run("onnx_in_onnx_out", "--out", str(tmp_path / "run"))
    before, after = (int(n) for n in re.findall(r"(\d+) (?:bytes before|after)", said))
    assert after < before
    gaps = [float(g) for g in re.findall(r"by (\d\S+)", said)]
    assert len(gaps) == 2
    assert max(gaps) < 1e-4
    assert finished(tmp_path / "run")


# What CI has none of: the same names, with a zoo network or noise behind them. Slow tests take the real ones.
TIMM = """
from dtp_edge.zoo import create


class Config:
    input_size = (3, 32, 32)


def is_model(name):
    return name == "mobilenetv3_small_100"


def create_model(name, pretrained, **options):
    return create("mobilenetv2_cifar", **options)


def get_pretrained_cfg(name, allow_unregistered=True):
    return Config()
"""
ELPV = """
import numpy as np


def load_dataset():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (50, 300, 300), dtype=np.uint8), random.random(50), np.array(["mono"] * 50)
"""


def quick(tmp_path: Path, name: str, source: str) -> dict[str, str]:
    """Return an environment in which `name` is `source`."""
    file = tmp_path / "stand-ins" / f"{name.replace('.', '/')}.py"
    file.parent.mkdir(parents=True)
    if "." in name:  # a package without this file would stand behind an installed one
        (file.parent / "__init__.py").touch()
    file.write_text(source)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "stand-ins"), str(EXAMPLES.parent)])}


def test_a_raspberry_pi_quickly(tmp_path: Path) -> None:
    said = run("raspberry_pi_timm", "--out", str(tmp_path / "run"), environment=quick(tmp_path, "timm", TIMM))
    assert said.count("can be had") == 3
    assert finished(tmp_path / "run")


def test_keyword_spotting_quickly(tmp_path: Path) -> None:
    few = ("--count", "60", "--epochs", "0.1")
    said = run("keyword_spotting_stm32", *few, "--out", str(tmp_path / "run"))
    assert re.search(r"int8 [01]\.\d+", said)
    assert finished(tmp_path / "run")
    assert (tmp_path / "run" / "model.int8.onnx").is_file()


def test_solar_cells_quickly(tmp_path: Path) -> None:
    few = ("--side", "24", "--epochs", "0.1", "--out", str(tmp_path / "run"))
    said = run("solar_cell_defects", *few, environment=quick(tmp_path, "elpv_dataset.utils", ELPV))
    assert re.search(r"pruned [01]\.\d+ on 10 cells", said)
    assert finished(tmp_path / "run")


@pytest.mark.slow
def test_a_timm_checkpoint_for_a_raspberry_pi(tmp_path: Path) -> None:
    said = run("raspberry_pi_timm", "--out", str(tmp_path / "run"), needs=("timm",))
    assert said.count("can be had") == 3
    assert finished(tmp_path / "run")


@pytest.mark.slow
def test_keyword_spotting_for_an_stm32(tmp_path: Path) -> None:
    said = run("keyword_spotting_stm32", "--count", "600", "--epochs", "2", "--out", str(tmp_path / "run"))
    assert re.search(r"int8 0\.\d+", said)
    assert finished(tmp_path / "run")
    assert (tmp_path / "run" / "model.int8.onnx").is_file()


@pytest.mark.slow
def test_defects_on_solar_cells(tmp_path: Path) -> None:
    small = ("--count", "200", "--side", "32", "--epochs", "1", "--out", str(tmp_path / "run"))
    said = run("solar_cell_defects", *small, needs=("elpv_dataset",))
    assert "pruned 0." in said or "pruned 1." in said
    assert finished(tmp_path / "run")


def test_every_example_is_short_and_says_how_to_start_it() -> None:
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 100, path.name
        assert f"python examples/{path.name}" in text.split('"""')[1] or "launch" in text, path.name
