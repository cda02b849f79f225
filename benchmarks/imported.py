"""A profile imported from what OpenVINO's own profiler printed here: does it predict other networks' times?

    python -m benchmarks.runtimes.fit build --files DIR   # 24 small networks, as ONNX
    python -m benchmarks.formats build --files NETS       # pruned networks of the runtime matrix, as ONNX
    python -m benchmarks.imported counters --files DIR    # benchmark_app, detailed counters of the 24
    python -m benchmarks.imported check --files DIR --nets NETS

`counters` runs `benchmark_app` several times a network and keeps the file of the fastest run: on a machine
that does other work, what interrupts a run is no property of a layer. `check` imports these files by
`dtp-edge profile import`, times the networks of NETS in turns (the lower quartile of all runs, one thread),
and writes predicted and measured into results/imported.csv.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.experiments import EXPERIMENTS
from benchmarks.runtimes.timer import time_in_turns
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.onnx.reader import load_onnx
from dtp_edge.runtimes import list_runtimes
from dtp_edge.runtimes.environment import interpreter

TABLE = EXPERIMENTS["imported"]
RUNTIME = "openvino"
COUNTERS = "benchmark_detailed_counters_report.csv"  # what benchmark_app writes into its folder
LIMIT_S = 120.0
FILES = click.option(
    "--files", type=click.Path(path_type=Path), required=True, help="Folder of the 24 networks."
)


@click.group()
def main() -> None:
    pass


@main.command()
@FILES
@click.option("--runs", default=3, help="Of which the fastest is kept.")
@click.option("--seconds", default=2, help="Each.")
def counters(files: Path, runs: int, seconds: int) -> None:
    """Profile every network; those whose counters are there stay."""
    (runtime,) = [r for r in list_runtimes() if r.name == RUNTIME]
    app = Path(interpreter(runtime)).with_name("benchmark_app")
    for path in networks_of(files):
        kept = files / "counters" / f"{path.stem}.csv"
        if kept.exists():
            continue
        found = []
        for run in range(runs):
            folder = files / "counters" / f"{path.stem}.{run}"
            folder.mkdir(parents=True, exist_ok=True)
            options = [
                "-hint",
                "none",
                "-api",
                "sync",
                "-nthreads",
                "1",
                "-nstreams",
                "1",
                "-infer_precision",
                "f32",
            ]
            command = [str(app), "-m", str(path), *options, "-t", str(seconds)]
            command += ["-report_type", "detailed_counters", "-report_folder", str(folder)]
            subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
            found.append(folder / COUNTERS)
        min(found, key=total_ms).replace(kept)
        click.echo(
            f"{path.stem}: " + ", ".join(f"{total_ms(p):.3f}" for p in (*found, kept) if p.exists()), err=True
        )


def networks_of(files: Path) -> list[Path]:
    return sorted(files.glob("[0-9]*.onnx"))


def total_ms(path: Path) -> float:
    """Return the sum that the file itself states in its last block."""
    with path.open(newline="") as stream:
        rows = [row for row in csv.reader(stream, delimiter=";") if row and row[0] == "Total"]
    return float(rows[-1][4])


@main.command()
@FILES
@click.option("--nets", type=click.Path(path_type=Path), required=True, help="Folder of the other networks.")
@click.option("--rounds", default=10)
@click.option("--repeats", default=10)
def check(files: Path, nets: Path, rounds: int, repeats: int) -> None:
    """Import the counters, time the other networks, predict them."""
    profile = files / f"{RUNTIME}-imported.json"
    command = [sys.executable, "-c", "from dtp_edge.cli import main; main()", "profile", "import"]
    known = [path for path in networks_of(files) if (files / "counters" / f"{path.stem}.csv").exists()]
    command += [str(files / "counters" / f"{path.stem}.csv") for path in known]
    for path in known:
        command += ["--model", str(path)]
    subprocess.run([*command, "--name", f"this-{RUNTIME}", "--out", str(profile)], check=True)
    others = sorted(nets.glob("*/model.onnx"))
    named = {path.parent.name: path for path in others}
    links = files / "others"
    links.mkdir(exist_ok=True)
    for name, path in named.items():
        (links / f"{name}.onnx").unlink(missing_ok=True)
        (links / f"{name}.onnx").symlink_to(path.resolve())
    paths = [links / f"{name}.onnx" for name in named]
    times, version = time_in_turns(RUNTIME, paths, files / "work", rounds=rounds, repeats=repeats)
    rows = []
    for name, path in named.items():
        module, example = load_onnx(path)
        network = trace_network(module.eval(), example)
        cost = NetworkCost(network.layers, load_profile(str(profile)))
        predicted = cost.evaluate(cost.dense_sizes())["latency_ms"]
        numbers = {"predicted_ms": predicted, "measured_ms": times[name], "ratio": predicted / times[name]}
        rows.append({"runtime": RUNTIME, "version": version, "network": name, "from": str(len(known))})
        rows[-1] |= {key: f"{value:.4g}" for key, value in numbers.items()}
        click.echo(rows[-1])
    TABLE.merge(rows)
    off = [abs(float(row["ratio"]) - 1) for row in rows]
    click.echo(f"median {np.median(off):.1%}, worst {max(off):.1%} of {len(off)}, {time.strftime('%H:%M')}")


def whole_page() -> str:
    """The page of the committed rows."""
    rows = TABLE.read()
    lines = [
        "# Imported profiles against measured networks",
        "",
        (__doc__ or "").split("\n\n")[0].strip(),
        "",
    ]
    lines += ["| runtime | network | predicted ms | measured ms | ratio |", "|---|---|---|---|---|"]
    for r in rows:
        cells = (
            f"{r['runtime']} {r['version']}",
            r["network"],
            r["predicted_ms"],
            r["measured_ms"],
            r["ratio"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    for runtime in dict.fromkeys(r["runtime"] for r in rows):
        off = [abs(float(r["ratio"]) - 1) for r in rows if r["runtime"] == runtime]
        lines += [
            "",
            f"{runtime}: off by {np.median(off):.1%} in the median of {len(off)}, at most {max(off):.1%}.",
        ]
    origins = "; ".join(dict.fromkeys(r["origin"] for r in rows))
    return "\n".join([*lines, "", f"Made by: {origins}" if rows else "No rows yet.", ""])


if __name__ == "__main__":
    main()
