"""The steps of the benchmark; `benchmarks/imported/__init__.py` says which there are."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.imported import TABLE
from benchmarks.imported.calls import time_files
from benchmarks.imported.counters import COUNTERS, convert_file
from benchmarks.imported.networks import FITTED, create
from dtp_edge import load_pruned
from dtp_edge.archive import save_pruned
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.onnx import export_onnx
from dtp_edge.surgery import compact

RUNTIMES = {"openvino": "model.onnx", "litert": "model.tflite"}
FILES = click.option(
    "--files", type=click.Path(path_type=Path), required=True, help="Of the fitted networks."
)
NETS = click.option("--nets", type=click.Path(path_type=Path), required=True, help="Of the judged networks.")
RUNTIME = click.option("--runtime", type=click.Choice(list(RUNTIMES)), required=True)
ONLY = click.option("--only", default="", help="Networks whose name begins so.")


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
    for folder in (*folders_of(files), *folders_of(nets)):
        if folder.name.startswith(only) and not file_of(folder, "litert").exists():
            fault = convert_file(folder)
            click.echo(f"{folder.name}: {fault or 'made'}", err=True)


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
        if not folder.name.startswith(only) or kept.exists() or not path.exists():
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
@click.option("--rounds", default=12)
@click.option("--calls", default=10, help="Timed calls of a network in a round.")
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
        module = load_pruned(nets / name)
        network = trace_network(module.eval(), torch.randn(shape_of(nets / name)))
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
    there = folder / "formats" / RUNTIMES[runtime]
    return there if there.exists() else folder / RUNTIMES[runtime]


def shape_of(folder: Path) -> tuple[int, ...]:
    import onnx

    (value,) = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph.input
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


if __name__ == "__main__":
    main()
