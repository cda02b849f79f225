"""A package of a user's own, as pip would install it: files, and an entry point of dtp_edge."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def install(folder: Path, group: str, point: str, **files: str) -> None:
    """Write the modules `files` and an entry point, such as `house = house_operator`, into `folder`."""
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / "house-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: house\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{point}\n")


def run_with(folder: Path, code: str) -> str:
    """Return what `code` prints in a Python that has the package in `folder` installed."""
    paths = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise AssertionError(run.stderr[-2000:])
    return run.stdout
