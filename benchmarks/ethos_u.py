"""Int8 .tflite of dense and pruned networks, and Vela's cycle estimate for an Ethos-U before and after.

    export DTP_EDGE_PYTHON_TFLITE=... DTP_EDGE_PYTHON_VELA=... DTP_EDGE_PYTHON_LITERT=...
    python -m benchmarks.ethos_u

The fp32 .tflite is compared with ONNX Runtime in LiteRT (`litert`, absolute). The int8 one is loaded in
LiteRT too and compared with fp32 (`litert_int8`, share of the outputs' range), beside what the int8 ONNX file
of the same network and samples differs from fp32 in ONNX Runtime (`onnx_int8`): the two quantisers choose
their own scales.
Cycles are a compiler's model, not silicon.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click
import numpy as np

import dtp_edge as dtp
from benchmarks.experiments import EXPERIMENTS
from benchmarks.runtimes import edge_networks
from dtp_edge.archive import save_pruned
from dtp_edge.graph import trace_network
from dtp_edge.int8 import quantize_onnx
from dtp_edge.onnx import export_onnx
from dtp_edge.runtimes import check_runtimes
from dtp_edge.runtimes.tflite import export_tflite, vela_estimate
from dtp_edge.surgery import compact

FIELDS = (
    "network",
    "macs",
    "accelerator",
    "litert",
    "litert_int8",
    "onnx_int8",
    "total_cycles",
    "npu_cycles",
    "sram_bytes",
    "flash_bytes",
    "vela",
)


@click.command()
@click.option("--networks", default="dscnn,resnet8,mobilenetv1_vww", help="Names from the zoo.")
@click.option("--macs", default="50%", help="Budget of the pruned one.")
@click.option("--accelerators", default="ethos-u55-128,ethos-u65-256")
def main(networks: str, macs: str, accelerators: str) -> None:
    """Write the table; rows of other networks that are in it stay."""
    for name in networks.split(","):
        for share in ("100%", macs):
            rows = measure(name, share, accelerators.split(","))
            for row in rows:
                click.echo(" ".join(f"{k} {v}" for k, v in row.items()))
            EXPERIMENTS["ethos_u"].merge(rows)


def measure(name: str, macs: str, accelerators: list[str]) -> list[dict[str, object]]:
    """Return one row an accelerator."""
    model, example = edge_networks.create(name)
    shape = tuple(example.shape)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        if macs == "100%":
            network = trace_network(model, (example,))
            keep = np.ones(network.n_atoms, dtype=bool)
            cut = compact(network, keep)
            save_pruned(run, cut, network, keep, {})
            export_onnx(cut.module, example, run / "model.onnx")
        else:
            budget = dtp.Budget(macs=macs)
            dtp.prune_for_device(model, example, device="rpi4-ncnn-fp32-1t", budget=budget, out=run / "run")
            run = run / "run"
        export_tflite(run, run / "model.tflite", shape)
        (litert,) = check_runtimes(run / "model.onnx", ["litert"])
        samples = edge_networks.samples(example, 16).numpy()
        int8 = export_tflite(run, run / "int8.tflite", shape, calibration=[samples])
        qdq = quantize_onnx(run / "model.onnx", run / "qdq.onnx", [samples], "minmax").path
        shutil.copyfile(run / "model.onnx", run / "int8.onnx")
        (lite,) = check_runtimes(run / "int8.onnx", ["litert"])
        (onnx,) = check_runtimes(qdq, ["onnxruntime"], reference=run / "model.onnx")
        differences = [
            litert.detail if litert.max_abs_diff is None else f"{litert.max_abs_diff:.1e}",
            *(r.detail if r.relative_diff is None else f"{r.relative_diff:.1e}" for r in (lite, onnx)),
        ]
        rows: list[dict[str, object]] = []
        for accelerator in accelerators:
            e = vela_estimate(int8, accelerator)
            values = (
                name,
                macs,
                accelerator,
                *differences,
                e.total_cycles,
                e.npu_cycles,
                e.sram_bytes,
                e.flash_bytes,
                e.version,
            )
            rows.append(dict(zip(FIELDS, values, strict=True)))
    return rows


if __name__ == "__main__":
    main()
