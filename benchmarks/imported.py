"""Profiles imported from what runtimes' own profilers print here: do they predict other networks' times?

    python -m benchmarks.imported build --files DIR     # 56 networks, ONNX and stored (torchvision, timm)
    python -m benchmarks.formats build --files NETS     # pruned networks of the runtime matrix, judged
    python -m benchmarks.imported convert --files DIR --nets NETS                # LiteRT's files of both
    python -m benchmarks.imported counters --files DIR --runtime openvino|litert
    python -m benchmarks.imported time --files DIR --nets NETS --runtime openvino|litert
    python -m benchmarks.imported check --files DIR --nets NETS --runtime openvino|litert

`counters` runs a runtime's own profiler several times a network and keeps the file of the fastest run: on a
machine that does other work, what interrupts a run is no property of a layer (there, begin both commands
with `chrt -f 50`: counters are means, and interrupted calls are in them). `time` calls the networks of NETS
in turns, without a profiler (the lower quartile of all calls, one thread); turns are so long that most calls
find the caches as a loop leaves them, which is how the profiler's runs find them. (With turns of 10 calls
OpenVINO's median was 12.9 %, with 40 8.4 %: both were known when 40 was chosen. Times of LiteRT's large
networks move by 15 % with what neighbours on the host do to memory: of one profile the median was 7.9 % with
times of the day before, 10.7 % beside other jobs, and 8.7 % without any, the row.) `check` imports the
counters by `dtp-edge profile import` and writes predicted and measured into results/imported.csv. No network
of NETS is among those whose counters are imported.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.experiments import EXPERIMENTS
from benchmarks.imported_networks import FITTED, create
from benchmarks.runtimes.bound_calls import time_files
from dtp_edge import load_pruned
from dtp_edge.archive import save_pruned
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.onnx import export_onnx
from dtp_edge.onnx.reader import load_onnx
from dtp_edge.runtimes.environment import interpreter
from dtp_edge.runtimes.registry import RUNTIMES
from dtp_edge.surgery import compact

TABLE = EXPERIMENTS["imported"]
OF = {"openvino": "model.onnx", "litert": "model.tflite"}
FILES = click.option(
    "--files", type=click.Path(path_type=Path), required=True, help="Of the fitted networks."
)
NETS = click.option("--nets", type=click.Path(path_type=Path), required=True, help="Of the judged networks.")
RUNTIME = click.option("--runtime", type=click.Choice(list(OF)), required=True)
ONLY = click.option("--only", default="", help="Networks whose names begin so, with commas.")

LIMIT_S = 600.0
OPENVINO = "-hint none -api sync -nthreads 1 -nstreams 1 -infer_precision f32 -report_type detailed_counters"
MAKE = """  # in LiteRT's environment: one line a network, made or why not
import json, sys
from dtp_edge.runtimes.formats.to_tflite import make
for job in json.loads(sys.argv[1]):
    try:
        make(job, [])
        print(job["folder"], "made", flush=True)
    except Exception as error:
        print(job["folder"], type(error).__name__, str(error)[:300].replace(chr(10), " "), flush=True)
"""


@click.group()
def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")


@main.command()
@FILES
def build(files: Path) -> None:
    """Write every network's archive and ONNX file; those that are there stay."""
    for name in FITTED:
        folder = files / name
        if (folder / "model.onnx").exists():
            continue
        module, example = create(name)
        network = trace_network(module, example)
        keep = np.ones(network.n_atoms, dtype=bool)
        folder.mkdir(parents=True, exist_ok=True)
        save_pruned(folder, compact(network, keep), network, keep, {})
        export_onnx(load_pruned(folder), example, folder / "model.onnx")
        click.echo(name, err=True)


@main.command()
@FILES
@NETS
@ONLY
def convert(files: Path, nets: Path, only: str) -> None:
    """Make LiteRT's file of every network; one that its converter refuses is named, and left out."""
    folders = [
        folder
        for folder in (*folders_of(files), *folders_of(nets))
        if folder.name.startswith(tuple(only.split(","))) and not file_of(folder, "litert").exists()
    ]
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    jobs = json.dumps([conversion(folder) for folder in folders])
    command = [interpreter(RUNTIMES["litert"]), "-W", "ignore", "-c", MAKE, jobs]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})


@main.command()
@FILES
@RUNTIME
@ONLY
@click.option("--runs", default=3, help="Of which the fastest is kept.")
@click.option("--seconds", default=1.0, help="Each.")
def counters(files: Path, runtime: str, only: str, runs: int, seconds: float) -> None:
    """Profile every network; those whose counters are there stay."""
    for folder in folders_of(files):
        path, kept = file_of(folder, runtime), folder / "counters" / runtime
        if not folder.name.startswith(tuple(only.split(","))) or kept.exists() or not path.exists():
            continue
        found = []
        for run in range(runs):
            out = folder / "counters" / f"{runtime}.{run}"
            out.mkdir(parents=True, exist_ok=True)
            found.append((COUNTERS[runtime](path, out, seconds), out))
        min(found)[1].rename(kept)
        for _, out in found:
            shutil.rmtree(out, ignore_errors=True)
        click.echo(f"{folder.name}: " + ", ".join(f"{ms:.4f}" for ms, _ in found), err=True)


@main.command("time")
@FILES
@NETS
@RUNTIME
@click.option("--rounds", default=8)
@click.option("--calls", default=40, help="Timed calls of a network in a round.")
def time_command(files: Path, nets: Path, runtime: str, rounds: int, calls: int) -> None:
    """Time the judged networks in turns."""
    named = {f.name: p for f in folders_of(nets) if (p := file_of(f, runtime)).exists()}
    times, version = time_files(runtime, named, rounds=rounds, calls=calls)
    lines = "".join(f"{name},{ms:.5g}\n" for name, ms in times.items())
    (files / f"{runtime}.times.csv").write_text(f"# {version}\nnetwork,latency_ms\n{lines}")
    click.echo(lines)


@main.command()
@FILES
@NETS
@RUNTIME
@click.option("--dry", is_flag=True, help="Write no rows.")
def check(files: Path, nets: Path, runtime: str, dry: bool) -> None:
    """Import the counters, predict the judged networks, and set both beside their times."""
    profile = files / f"{runtime}-imported.json"
    known = [folder for folder in folders_of(files) if (folder / "counters" / runtime).is_dir()]
    command = [sys.executable, "-c", "from dtp_edge.cli import main; main()", "profile", "import"]
    for folder in known:
        command += [str(path) for path in sorted((folder / "counters" / runtime).iterdir())]
    for folder in known:
        command += ["--model", str(folder / "model.onnx")]
    subprocess.run([*command, "--name", f"this-{runtime}", "--out", str(profile)], check=True)
    head, *table = (files / f"{runtime}.times.csv").read_text().splitlines()
    rows = []
    for name, measured in (line.split(",") for line in table[1:]):
        module, example = load_onnx(nets / name / "model.onnx")
        network = trace_network(module.eval(), example)
        cost = NetworkCost(network.layers, load_profile(str(profile)))
        sizes = cost.dense_sizes()
        predicted = cost.evaluate(sizes)["latency_ms"]
        numbers = {"predicted_ms": predicted, "measured_ms": float(measured)}
        numbers["ratio"] = predicted / float(measured)
        row = {"runtime": runtime, "version": head.lstrip("# "), "network": name, "from": str(len(known))}
        row |= {key: f"{value:.4g}" for key, value in numbers.items()}
        rows.append(row | {"outside": f"{sum(one.share for one in cost.outside(sizes)):.0%}"})
        click.echo(rows[-1])
    if not dry:
        others = [row for row in TABLE.read() if row["runtime"] != runtime]
        TABLE.table(others + rows)
        TABLE.write_page()
    off = [abs(float(row["ratio"]) - 1) for row in rows]
    click.echo(f"median {np.median(off):.1%}, worst {max(off):.1%} of {len(off)}")


def folders_of(files: Path) -> list[Path]:
    return sorted(path.parent for path in files.glob("*/model.onnx"))


def file_of(folder: Path, runtime: str) -> Path:
    """Return a runtime's file of a network; those of `benchmarks.formats` are in a folder below."""
    there = folder / "formats" / OF[runtime]
    return there if there.exists() else folder / OF[runtime]


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
    script = Path(__file__).with_name("runtimes") / "litert_counters.py"
    python = interpreter(RUNTIMES["litert"])
    return float(_run([python, str(script), str(path), str(out / "profile.txt"), str(seconds)]).split()[0])


def conversion(folder: Path) -> dict[str, object]:
    """Return the job that makes `model.tflite` of the network that is stored in `folder`."""
    import onnx

    (value,) = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    return {
        "pruned": str(folder),
        "folder": str(folder),
        "target": str(folder / "model.tflite"),
        "precision": "fp32",
        "format": "tflite",
        "rewrites": [],
        "inputs": [{"shape": shape, "dtype": "float32"}],
    }


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout


COUNTERS: dict[str, Callable[[Path, Path, float], float]] = {
    "openvino": run_openvino,
    "litert": run_litert,
}


def whole_page() -> str:
    """The page of the committed rows."""
    rows = TABLE.read()
    about = (__doc__ or "").split("\n\n")
    lines = ["# Imported profiles against measured networks", "", about[0].strip(), "", about[2].strip()]
    for runtime in dict.fromkeys(r["runtime"] for r in rows):
        mine = [r for r in rows if r["runtime"] == runtime]
        off = [abs(float(r["ratio"]) - 1) for r in mine]
        lines += [
            "",
            f"## {runtime} {mine[0]['version']}",
            "",
            f"Off by {np.median(off):.1%} in the median of {len(off)}, at most {max(off):.1%}; from the "
            f'counters of {mine[0]["from"]} other networks. "Outside" is the share of the predicted time '
            "whose layers lie outside of what the profile was fitted to, as the command warns.",
            "",
            "| network | predicted ms | measured ms | ratio | outside |",
            "|---|---|---|---|---|",
        ]
        for r in mine:
            cells = (r["network"], r["predicted_ms"], r["measured_ms"], r["ratio"], r.get("outside") or "")
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "Made by: " + "; ".join(dict.fromkeys(r["origin"] for r in mine))]
    return "\n".join([*lines, *([] if rows else ["", "No rows yet."]), ""])


if __name__ == "__main__":
    main()
