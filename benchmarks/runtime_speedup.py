"""Does the predicted speed-up arrive in other runtimes? Dense and pruned files, timed in turns, one thread.

    python benchmarks/runtime_speedup.py prepare --files DIR      # prune to --latency of --device and export
    python benchmarks/runtime_speedup.py time --files DIR         # on a quiet machine

`--device host` predicts for ONNX Runtime. Another runtime wants a profile of its own, as
`runtime_profiles.py` makes it: `--device DIR/ncnn.json --runtimes ncnn` in both steps.
Writes benchmarks/results/runtime_speedup.csv. "share" is the measured fall of the latency over the predicted
one: 1 means that all of it arrived, and 0.9 is asked for.
"""

from __future__ import annotations

import csv
import datetime
import json
import math
import operator
import platform
from pathlib import Path
from typing import Any

import click
import edge_networks
import torch

import dtp_edge as dtp
from dtp_edge.export import check_runtimes, export_onnx
from dtp_edge.pipeline import RunContext

RESULTS = Path(__file__).with_name("results") / "runtime_speedup.csv"
FIELDS = (
    "network",
    "device",
    "runtime",
    "version",
    "dense_ms",
    "pruned_ms",
    "fall",
    "predicted_fall",
    "share",
    "detail",
)
FILES = click.option(
    "--files", type=click.Path(path_type=Path), required=True, help="Folder of the ONNX files."
)
NETWORKS = click.option(
    "--networks", default="resnet20,mobilenetv1_vww,mobilenet_v2", help="Names, with commas."
)


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@FILES
@NETWORKS
@click.option("--device", default="host")
@click.option("--latency", default="60%")
def prepare(files: Path, networks: str, device: str, latency: str) -> None:
    """Write NAME.dense.onnx, NAME.pruned.onnx and NAME.json with the predicted latencies."""
    files.mkdir(parents=True, exist_ok=True)
    for name in networks.split(","):
        stem = f"{name}.{Path(device).stem}"
        if (files / f"{stem}.json").exists():
            continue
        model, example = edge_networks.create(name)
        budget, context = dtp.Budget(latency=latency), RunContext(measure=False)
        result = dtp.prune_for_device(model, example, device=device, budget=budget, out=None, context=context)
        edge_networks.calibrate_norms(result.module, example)
        if not (files / f"{name}.dense.onnx").exists():
            export_onnx(model, example, files / f"{name}.dense.onnx")
        export_onnx(result.module, example, files / f"{stem}.pruned.onnx")
        (row,) = [r for r in result.report["budgets"] if r["metric"] == "latency_ms"]
        facts = {
            "device": Path(device).stem,
            "dense": row["dense_predicted"],
            "pruned": row["pruned_predicted"],
        }
        (files / f"{stem}.json").write_text(json.dumps(facts))
        click.echo(f"{name}: {facts}")


@main.command("time")
@FILES
@NETWORKS
@click.option("--device", default="host", help="As in prepare.")
@click.option("--runtimes", default="onnxruntime,openvino,ncnn")
@click.option("--repeats", default=30, help="Timed runs of a file in a round.")
@click.option("--rounds", default=3, help="Dense and pruned in turns; the fastest median counts.")
def time_files(files: Path, networks: str, device: str, runtimes: str, repeats: int, rounds: int) -> None:
    """Time both files of each network in each runtime and write the table."""
    rows = []
    for name in networks.split(","):
        facts = json.loads((files / f"{name}.{Path(device).stem}.json").read_text())
        for runtime in runtimes.split(","):
            rows.append(measure(files, name, runtime, facts, repeats, rounds))
            click.echo(" ".join(f"{k} {v}" for k, v in rows[-1].items()))
            write(rows)


def measure(
    files: Path, name: str, runtime: str, facts: dict[str, Any], repeats: int, rounds: int
) -> dict[str, Any]:
    """Return one row: the best of the rounds' medians of each file, and the falls."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for which, stem in (("dense", name), ("pruned", f"{name}.{facts['device']}")):
            (row,) = check_runtimes(files / f"{stem}.{which}.onnx", [runtime], repeats=repeats)
            if row.latency_ms is None:
                return {"network": name, "device": facts["device"], "runtime": runtime, "detail": row.detail}
            best[which] = min(best.get(which, math.inf), row.latency_ms)
    fall, predicted = 1 - best["pruned"] / best["dense"], 1 - facts["pruned"] / facts["dense"]
    numbers = (best["dense"], best["pruned"], fall, predicted, fall / predicted)
    values = (name, facts["device"], runtime, row.version, *(f"{v:.4g}" for v in numbers), "")
    return dict(zip(FIELDS, values, strict=True))


def write(rows: list[dict[str, Any]]) -> None:
    """Add the rows to the table, each in the place of an older one."""
    old: list[dict[str, Any]] = []
    if RESULTS.is_file():
        with RESULTS.open(newline="") as stream:
            old = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    key = operator.itemgetter("network", "device", "runtime")
    new = {key(row) for row in rows}
    rows = [row for row in old if key(row) not in new] + rows
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as stream:
        stream.write(f"# {datetime.date.today()}, {platform.machine()}, one thread\n")
        writer = csv.DictWriter(stream, FIELDS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
