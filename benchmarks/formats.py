"""Pruned networks in {pte, tflite: fp32, int8; OpenVINO, ncnn; Ethos-U}: agreement, placement, time, memory.

    python -m benchmarks.formats build --files DIR   # prune, store, export, quantise (needs torchvision)
    python -m benchmarks.formats cells --files DIR   # writes benchmarks/results/formats.{csv,md}
    python -m benchmarks.formats times --files DIR   # all files anew, in turns, on a quiet machine
    python -m benchmarks.formats predict --files DIR # the RAM that is predicted of each row, anew
    python -m benchmarks.formats page

The networks are those of the runtime matrix, with random weights, cut to half their MACs. Each cell is made
by the vendor's exporter, read back by its runtime and compared with torch, as `--format` does. Environments
are those of `dtp-edge env NAME`, or DTP_EDGE_PYTHON_<NAME>. A cell that is in the table is not run again;
`--networks`, `--formats` and `--again` narrow and repeat. Times of `cells` are medians of 30 runs in one
thread, ONNX Runtime's right before them; `times` times all files of a runtime in turns in one process.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.common.origin import in_words, origin
from benchmarks.experiments import EXPERIMENTS
from benchmarks.runtimes import edge_networks
from benchmarks.runtimes.timer import time_models
from dtp_edge import load_profile, load_pruned
from dtp_edge.archive import save_pruned
from dtp_edge.cost import NetworkCost
from dtp_edge.cost.planners import PLANNERS, RuntimePlan
from dtp_edge.errors import DtpEdgeError
from dtp_edge.graph import trace_network
from dtp_edge.int8 import quantize_onnx
from dtp_edge.onnx import export_onnx
from dtp_edge.run.facts_formats import planned_ram
from dtp_edge.run.further_formats import int8_truth, truth_of
from dtp_edge.runtimes import FormatRow, check_runtimes, make_file
from dtp_edge.runtimes.formats.made_file import Limits, Port, Source
from dtp_edge.runtimes.formats.registry import FORMATS
from dtp_edge.surgery import compact

FORMATS_TABLE = EXPERIMENTS["formats"]
CELLS = (
    *(("openvino", "fp32"), ("ncnn", "fp32"), ("pte", "fp32"), ("tflite", "fp32")),
    *(("pte", "int8"), ("tflite", "int8"), ("ethosu", "int8")),
    ("cortexm", "int8"),
)
PROFILE = "rpi4-ncnn-fp32-1t"  # whose times the shares are of
CALIBRATED, HELD_OUT = 48, 16
FILES = click.option(
    "--files", type=click.Path(path_type=Path), required=True, help="Folder of the networks."
)
NETWORKS = click.option("--networks", default=",".join(edge_networks.NETWORKS), help="Names, with commas.")


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@FILES
@NETWORKS
def build(files: Path, networks: str) -> None:
    """Prune each network; write its archive, model.onnx and model.int8.onnx into a folder of its own."""
    for name in networks.split(","):
        folder = files / name
        if (folder / "model.int8.onnx").exists():
            continue
        model, example = edge_networks.create(name)
        try:
            pruned = edge_networks.prune(model, example, "50%")
        except DtpEdgeError as error:
            click.echo(f"{name}: not pruned: {error}")
            continue
        network = trace_network(pruned.eval(), example)
        keep = np.ones(network.n_atoms, dtype=bool)
        folder.mkdir(parents=True, exist_ok=True)
        save_pruned(folder, compact(network, keep), network, keep, {})
        onnx = export_onnx(load_pruned(folder), example, folder / "model.onnx")
        inputs = edge_networks.pixels((CALIBRATED, *example.shape[1:]), seed=2)
        quantize_onnx(onnx, folder / "model.int8.onnx", [inputs], "minmax")
        click.echo(f"{name}: {sum(p.numel() for p in pruned.parameters())} parameters", err=True)


@main.command()
@FILES
@NETWORKS
@click.option("--formats", default=",".join(dict.fromkeys(name for name, _ in CELLS)))
@click.option("--precisions", default="fp32,int8")
@click.option("--again", is_flag=True, help="Repeat cells that are in the table.")
@click.option("--timeout", default=900.0, help="Seconds a step of a cell may take.")
def cells(files: Path, networks: str, formats: str, precisions: str, again: bool, timeout: float) -> None:
    """Make, read back and compare every cell; each is a row, made or not."""
    done = {(r["network"], r["format"], r["precision"]) for r in FORMATS_TABLE.read()}
    for name in networks.split(","):
        wanted = [
            (one, precision)
            for one, precision in CELLS
            if one in formats.split(",") and precision in precisions.split(",")
            if again or (name, one, precision) not in done
        ]
        if not wanted or not (files / name / "model.onnx").is_file():
            continue
        source, cost = _source(files / name)
        out = files / name / "formats"
        out.mkdir(exist_ok=True)
        for one, precision in wanted:
            started = time.monotonic()
            beside = check_runtimes(source.onnx, ["onnxruntime"], repeats=30, inspect=False)[0].latency_ms
            row = make_file(FORMATS[one], precision, source, out, limits=Limits(timeout, repeats=30))
            ram = planned_ram(cost, row, cost.dense_sizes())
            cell = {"network": name, **_cell(row), "onnxruntime_ms": beside, "predicted_ram_bytes": ram}
            cell["seconds"] = round(time.monotonic() - started)
            rows = FORMATS_TABLE.merge([{k: "" if v is None else str(v) for k, v in cell.items()}])
            click.echo(f"{len(rows)}: {cell}")


def _source(folder: Path) -> tuple[Source, NetworkCost]:
    module = load_pruned(folder).eval()
    network = trace_network(module, (torch.randn(2, *_shape(folder)[1:]),))
    cost = NetworkCost(network.layers, load_profile(PROFILE))
    kernels = [
        (row.kernel, float(row.latency_ms))
        for row in cost.by_layer(cost.dense_sizes())
        if row.fused_into is None
    ]
    shape = _shape(folder)
    probes = [
        (torch.from_numpy(edge_networks.pixels(shape, seed=seed)),) for seed in range(HELD_OUT + CALIBRATED)
    ]
    samples = np.stack([x[0].numpy() for x in probes[HELD_OUT:]])
    held = [[x[0].numpy()] for x in probes[:HELD_OUT]]
    int8 = folder / "model.int8.onnx"
    source = Source(
        pruned=folder,
        onnx=folder / "model.onnx",
        ports=(Port("x", shape, "float32"),),
        truth={"fp32": truth_of(module, probes[:4]), "int8": int8_truth(module, held, int8)},
        onnx_int8=int8,
        samples=[samples],
        kernels=kernels,
    )
    return source, cost


def _shape(folder: Path) -> tuple[int, ...]:
    import onnx

    (value,) = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph.input
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def _cell(row: FormatRow) -> dict[str, Any]:
    placed = row.placement
    left = {} if placed is None else {one.kind: one.share for one in reversed(placed.left)}
    return {
        "format": row.format,
        "precision": row.precision,
        "version": row.version,
        "status": row.status,
        "max_abs_diff": row.max_abs_diff,
        "relative_error": row.error,
        "same_top1": row.same_top1,
        "delegated": None if placed is None else round(placed.delegated, 4),
        "by": None if placed is None else placed.by,
        "left": " ".join(sorted(left)),
        "bytes": row.bytes,
        "latency_ms": row.latency_ms,
        "memory_bytes": row.memory_bytes,
        "memory_of": row.memory_of,
        "detail": row.detail,
    }


@main.command()
@FILES
@click.option("--rounds", default=8, help="Every file in turn, so often.")
@click.option("--repeats", default=6, help="Timed runs of a file in a round.")
def times(files: Path, rounds: int, repeats: int) -> None:
    """Time every file that is there; all other facts of a row stay."""
    rows = FORMATS_TABLE.read()
    stamp = in_words(origin(FORMATS_TABLE.packages))
    there = [r for r in rows if r["status"] == "ok" and _first_file(files, r).is_file()]
    runtimes = {FORMATS[r["format"]].runtime for r in there if r["latency_ms"]}
    for runtime in ("onnxruntime", *sorted(runtimes)):
        own = [
            r for r in there if r["latency_ms"] and runtime in ("onnxruntime", FORMATS[r["format"]].runtime)
        ]
        onnx = {r["network"]: files / r["network"] / "model.onnx" for r in own}
        models = {
            f"{r['network']} {r['precision']}": (onnx[r["network"]], _first_file(files, r)) for r in own
        }
        if runtime == "onnxruntime":
            models = {name: (path, path) for name, path in onnx.items()}
        found, _ = time_models(runtime, models, files / "work", rounds=rounds, repeats=repeats)
        for row in own:
            if runtime == "onnxruntime":
                row["onnxruntime_ms"] = f"{found[row['network']]:.5g}"
            else:
                latency_ms = found[f"{row['network']} {row['precision']}"]
                row |= {"latency_ms": f"{latency_ms:.5g}", "timed": stamp}
        click.echo(f"{runtime}: {len(found)} files", err=True)
        FORMATS_TABLE.table(rows)


def _first_file(files: Path, row: dict[str, str]) -> Path:
    return files / row["network"] / "formats" / FORMATS[row["format"]].files("model", row["precision"])[0]


@main.command()
@FILES
def predict(files: Path) -> None:
    """Predict the RAM of every row anew; what was measured stays, with its origin."""
    rows, costs = FORMATS_TABLE.read(), {}
    for row in rows:
        name, runtime = row["network"], FORMATS[row["format"]].runtime
        if row["memory_bytes"] and runtime in PLANNERS and (files / name / "model.onnx").is_file():
            if name not in costs:
                module = load_pruned(files / name).eval()
                costs[name] = trace_network(module, (torch.randn(2, *_shape(files / name)[1:]),)).layers
            sizes = np.array([len(width) for width in costs[name].widths], dtype=float)
            plan = RuntimePlan(costs[name], PLANNERS[runtime], row["precision"])
            row["predicted_ram_bytes"] = str(plan.arena_bytes(sizes))
    FORMATS_TABLE.table(rows)


@main.command()
def page() -> None:
    """Write the page of the rows that are there."""
    FORMATS_TABLE.write_page()


def whole_page() -> str:
    """The page of the committed rows."""
    from benchmarks.formats_page import page_of

    return page_of(FORMATS_TABLE.read())


if __name__ == "__main__":
    main()
