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


def run(name: str, *arguments: str, needs: tuple[str, ...] = ()) -> str:
    for package in needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
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
