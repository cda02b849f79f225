"""Matrix of networks x runtimes x {fp32, int8 QDQ}: does each exported file load, run and agree?

    python -m benchmarks.runtimes.matrix build --files DIR   # prune, export, quantise (needs torchvision)
    python -m benchmarks.runtimes.matrix tflite --files DIR   # for LiteRT, from the ONNX files
    python -m benchmarks.runtimes.matrix check --files DIR   # writes benchmarks/results/runtimes.{csv,md}

Inputs are 8-bit pixels, normalised, as a camera gives them: free floats may lie between two steps.
A runtime in an environment of its own is found through DTP_EDGE_PYTHON_<NAME> (see `dtp-edge check --help`).
Both steps continue where they stopped; `--networks` and `--runtimes` narrow them.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.common.experiment import RESULTS
from benchmarks.experiments import EXPERIMENTS
from benchmarks.runtimes import edge_networks
from benchmarks.runtimes.int8_blocks import compare, first_difference, with_roundings_shown
from dtp_edge.archive import save_pruned
from dtp_edge.errors import DtpEdgeError
from dtp_edge.graph import trace_network
from dtp_edge.int8 import quantize_onnx
from dtp_edge.onnx import export_onnx
from dtp_edge.onnx.reader import load_onnx
from dtp_edge.runtimes import RuntimeRow, check_runtimes, export_tflite, list_runtimes
from dtp_edge.surgery import compact

MATRIX = EXPERIMENTS["runtimes"]
NOTES = """
## What is missing

The files are those of one run of `benchmarks.runtimes.matrix build` from an empty folder (22 November);
their cells were checked on 22 and 23 November, each by `check`. TVM, IREE and MNN ran on the four smallest
networks. LiteRT reads its own format: its fp32 files are made from the weights of the ONNX files by `tflite`;
its int8 is that of another quantiser (`ethos_u.csv` has it beside ONNX Runtime's).
"""
FIELDS = (
    "network",
    "precision",
    "runtime",
    "version",
    "status",
    "max_abs_diff",
    "relative_diff",
    "latency_ms",
    "detail",
)
LEGEND = """\
fp32: largest absolute difference from ONNX Runtime, optimisations off; where it is above 1e-4, the share of
the outputs' range in brackets: a cell is ok within 1e-4 of the largest output (or of 1).
int8: share of the range. LiteRT reads a .tflite file of the same weights.
(u): above 1 %, because the runtime leaves out the roundings between convolutions and sums: it agrees as soon
as these are outputs of the file, so that it must compute them (smallest: `runtime_faults.md`).
(r): above 1 % by float rounding that adds up over a deep network with random weights: fed with the same
numbers, each of its int8 blocks is within one step of ONNX Runtime's (see int8_blocks.py); the list below
says where the whole network first differs.
"""
FILES = click.option(
    "--files", type=click.Path(path_type=Path), required=True, help="Folder of the ONNX files."
)
NETWORKS = click.option("--networks", default=",".join(edge_networks.NETWORKS), help="Names, with commas.")


@click.group()
def main() -> None:
    torch.set_num_threads(1)


@main.command()
@FILES
@NETWORKS
@click.option("--macs", default="50%", help="Budget; 100% exports the dense networks.")
@click.option("--calibration", default=12, help="Random samples that set the int8 ranges.")
@click.option("--method", default="minmax", help="Calibration method.")
def build(files: Path, networks: str, macs: str, calibration: int, method: str) -> None:
    """Write NAME.fp32.onnx and NAME.int8.onnx of each network."""
    files.mkdir(parents=True, exist_ok=True)
    for name in networks.split(","):
        fp32, int8 = files / f"{name}.fp32.onnx", files / f"{name}.int8.onnx"
        if not fp32.exists():
            model, example = edge_networks.create(name)
            dense = sum(p.numel() for p in model.parameters())
            try:
                pruned = model if macs == "100%" else edge_networks.prune(model, example, macs)
            except DtpEdgeError as error:
                click.echo(f"{name}: not pruned: {error}")
                continue
            kept = sum(p.numel() for p in pruned.parameters())
            export_onnx(pruned, example, fp32)
            click.echo(f"{name}: {dense} -> {kept} parameters")
        if not int8.exists():
            shape = _input_shape(fp32)
            inputs = edge_networks.pixels((calibration, *shape[1:]), seed=2)
            result = quantize_onnx(fp32, int8, [inputs], method)
            click.echo(
                f"{name}: int8 by {result.method}, relative error {result.agreement.relative_error:.3f}"
            )


@main.command()
@FILES
@NETWORKS
def tflite(files: Path, networks: str) -> None:
    """Write NAME.fp32.tflite beside each NAME.fp32.onnx, from the weights in it."""
    for name in networks.split(","):
        source, target = files / f"{name}.fp32.onnx", files / f"{name}.fp32.tflite"
        if target.exists() or not source.exists():
            continue
        module, example = load_onnx(source)
        network = trace_network(module.eval(), example)
        keep = np.ones(network.n_atoms, dtype=bool)
        with tempfile.TemporaryDirectory() as folder:
            save_pruned(folder, compact(network, keep), network, keep, {})
            try:
                export_tflite(folder, target, _input_shape(source))
            except DtpEdgeError as error:
                click.echo(f"{name}: no .tflite: {error}")
                continue
        click.echo(f"{name}: {target.stat().st_size} bytes of .tflite")


@main.command()
@FILES
@NETWORKS
@click.option("--runtimes", default=",".join(r.name for r in list_runtimes() if r.reads == "onnx"))
@click.option("--precisions", default="fp32,int8")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the tables.")
@click.option("--repeats", default=10, help="Timed runs of each cell.")
@click.option("--timeout", default=300.0, help="Seconds a cell may take.")
@click.option("--memory", default=2500, help="MiB a cell may take.")
def check(
    files: Path,
    networks: str,
    runtimes: str,
    precisions: str,
    results: Path,
    repeats: int,
    timeout: float,
    memory: int,
) -> None:
    """Check every file in every runtime; a cell that is already in the table is not run again."""
    results.mkdir(parents=True, exist_ok=True)
    rows = MATRIX.read(results / "runtimes.csv")
    for name in networks.split(","):
        for precision in precisions.split(","):
            path = files / f"{name}.{precision}.onnx"
            done = {(r["network"], r["precision"], r["runtime"]) for r in rows if r["status"] != "missing"}
            todo = [r for r in runtimes.split(",") if (name, precision, r) not in done]
            if not path.is_file() or not todo:
                continue
            limits: dict[str, Any] = {"timeout_s": timeout, "memory_bytes": memory << 20}
            inputs = _inputs(path)
            for row in check_runtimes(path, todo, inputs, repeats=repeats, **limits):
                if precision == "int8" and row.relative_diff is not None and row.status != "ok":
                    row = _with_cause(row, path, inputs, limits)
                cell = {"network": name, "precision": precision} | {
                    f: getattr(row, f, "") for f in FIELDS[2:]
                }
                rows = [
                    r
                    for r in rows
                    if (r["network"], r["precision"], r["runtime"]) != (name, precision, row.runtime)
                ]
                rows.append({key: "" if value is None else str(value) for key, value in cell.items()})
                click.echo(f"{name} {precision} {row.runtime}: {row.status} {row.max_abs_diff} {row.detail}")
            _write(rows, results)


def _with_cause(
    row: RuntimeRow, path: Path, inputs: dict[str, np.ndarray], limits: dict[str, Any]
) -> RuntimeRow:
    """Tell what a difference comes from: roundings that are left out, rounding in float, or a fault."""
    with tempfile.TemporaryDirectory() as folder:
        shown = with_roundings_shown(path, Path(folder) / "shown.onnx")
        (other,) = check_runtimes(shown, [row.runtime], inputs, **limits)
    if other.status == "ok":
        said = f"{other.relative_diff:.1e} of range where the roundings before sums are outputs of the file"
        return replace(row, status="leaves out", detail=f"{row.detail}; {said}")
    (x,) = inputs.values()
    found = compare(path, row.runtime, x, **limits)
    rounding = found.status == "ok" and found.worst <= 1
    said = f"{row.detail}; {found}; {first_difference(path, row.runtime, x, **limits)}"
    return replace(row, status="rounding" if rounding else row.status, detail=said)


def _inputs(path: Path) -> dict[str, np.ndarray]:
    import onnx

    (value,) = onnx.load(str(path), load_external_data=False).graph.input
    return {value.name: edge_networks.pixels(_input_shape(path), seed=0)}


def _input_shape(path: Path) -> list[int]:
    import onnx

    (value,) = onnx.load(str(path), load_external_data=False).graph.input
    return [d.dim_value for d in value.type.tensor_type.shape.dim]


def _write(rows: list[dict[str, str]], results: Path) -> None:
    """Write the table as CSV, and as Markdown with a list of every cell that is not ok."""
    order = {name: i for i, name in enumerate(edge_networks.NETWORKS)}
    rows = sorted(rows, key=lambda r: (order.get(r["network"], 99), r["precision"], r["runtime"]))
    MATRIX.table(rows, results / "runtimes.csv")
    (results / "runtimes.md").write_text(_markdown(MATRIX.read(results / "runtimes.csv")))


def whole_page() -> str:
    """The page of the committed rows."""
    return _markdown(MATRIX.read())


def _markdown(rows: list[dict[str, str]]) -> str:
    stamp = "; ".join(dict.fromkeys(row["origin"] for row in rows))
    columns = [r.name for r in list_runtimes() if any(row["runtime"] == r.name for row in rows)]
    lines = [f"# Networks x runtimes ({stamp})", ""]
    versions = {r["runtime"]: r["version"] for r in rows if r["version"]}
    lines += ["Versions: " + ", ".join(f"{n} {versions.get(n, '?')}" for n in columns), ""]
    lines += [LEGEND]
    for precision in ("fp32", "int8"):
        cells = {(r["network"], r["runtime"]): r for r in rows if r["precision"] == precision}
        lines += [
            f"## {precision}",
            "",
            "| network | " + " | ".join(columns) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        for network in dict.fromkeys(network for network, _ in cells):
            values = [_cell(cells.get((network, c)), precision) for c in columns]
            lines.append(f"| {network} | " + " | ".join(values) + " |")
        lines.append("")
    lines += ["## Cells that are not ok", ""]
    lines += [
        f"- {r['network']} {r['precision']} {r['runtime']}: {r['status']}: {r['detail']}"
        for r in rows
        if r["status"] != "ok"
    ]
    return "\n".join(lines) + "\n" + NOTES


def _cell(row: dict[str, str] | None, precision: str) -> str:
    if row is None:
        return ""
    if row["status"] in ("rounding", "leaves out"):
        return f"{float(row['relative_diff']):.1e} ({'r' if row['status'] == 'rounding' else 'u'})"
    if row["status"] != "ok":
        return f"**{row['status']}**"
    share = f"{float(row['relative_diff']):.1e}"
    if precision == "int8":
        return share
    difference = float(row["max_abs_diff"])
    return f"{difference:.1e}" + (f" ({share})" if difference > 1e-4 else "")


if __name__ == "__main__":
    main()
