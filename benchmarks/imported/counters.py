"""How each runtime's own profiler is run on a file, and LiteRT's files made."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from dtp_edge.runtimes.environment import interpreter
from dtp_edge.runtimes.registry import RUNTIMES

LIMIT_S = 600.0
OPENVINO = "-hint none -api sync -nthreads 1 -nstreams 1 -infer_precision f32 -report_type detailed_counters"
MAKE = """
import sys
from dtp_edge.runtimes.formats.to_tflite import make
make({"pruned": sys.argv[1], "folder": sys.argv[1], "target": sys.argv[2], "precision": "fp32"}, [])
"""


def run_openvino(path: Path, out: Path, seconds: float) -> float:
    """Write the counters and the report of `benchmark_app` into `out`; return the sum of counters in ms."""
    app = Path(interpreter(RUNTIMES["openvino"])).with_name("benchmark_app")
    command = [str(app), "-m", str(path), *OPENVINO.split(), "-report_folder", str(out)]
    _run([*command, "-t", str(max(1, round(seconds)))])
    with (out / "benchmark_detailed_counters_report.csv").open(newline="") as stream:
        rows = [row for row in csv.reader(stream, delimiter=";") if row and row[0] == "Total"]
    return float(rows[-1][4])


def run_litert(path: Path, out: Path, seconds: float) -> float:
    """Write what LiteRT's profiler prints into `out`; return the time of a call in ms."""
    script = Path(__file__).with_name("litert_counters.py")
    python = interpreter(RUNTIMES["litert"])
    return float(_run([python, str(script), str(path), str(out / "profile.txt"), str(seconds)]).split()[0])


def convert_file(folder: Path) -> str:
    """Make `model.tflite` of the network that is stored in `folder`; return why not, "" where it was made."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    command = [interpreter(RUNTIMES["litert"]), "-c", MAKE, str(folder), str(folder / "model.tflite")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path}
    )
    return "" if done.returncode == 0 else done.stderr.strip()[-300:]


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout


COUNTERS: dict[str, Callable[[Path, Path, float], float]] = {
    "openvino": run_openvino,
    "litert": run_litert,
}
