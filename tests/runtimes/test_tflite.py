"""LiteRT export and Vela: a missing or failing converter is told; the real ones where installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge.archive import save_pruned
from dtp_edge.errors import CheckError, InputError, UnsupportedError
from dtp_edge.graph import trace_network
from dtp_edge.onnx import export_onnx
from dtp_edge.runtimes import check_runtimes
from dtp_edge.runtimes.tflite import export_tflite, vela_estimate
from dtp_edge.surgery import compact

SHAPE = (1, 3, 16, 16)
SUMMARY = """cycles_total,cycles_npu,inference_time,sram_memory_used,off_chip_flash_memory_used
1200.5,900,0.0025,2.5,4
"""


def script(path: Path, body: str) -> str:
    """Write a program that stands for an interpreter."""
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_an_absent_converter_names_its_install_line(tmp_path: Path) -> None:
    python = script(tmp_path / "p", "sys.exit(\"ModuleNotFoundError: No module named 'litert_torch'\")")
    with pytest.raises(UnsupportedError, match=r"litert_torch is not installed(.|\n)*dtp-edge\[tflite\]"):
        export_tflite(tmp_path, tmp_path / "m.tflite", SHAPE, interpreter=python)
    python = script(tmp_path / "v", "sys.exit('/usr/bin/python: No module named ethosu')")
    with pytest.raises(UnsupportedError, match=r"dtp-edge\[vela\]"):
        vela_estimate(tmp_path / "m.tflite", interpreter=python)
    with pytest.raises(InputError, match="cannot be started"):
        vela_estimate(tmp_path / "m.tflite", interpreter=str(tmp_path / "nothing"))


def test_a_failing_or_silent_converter_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.tflite"
    with pytest.raises(CheckError, match="code 1: no kernel for erf"):
        export_tflite(
            tmp_path, out, SHAPE, interpreter=script(tmp_path / "p", "sys.exit('no kernel for erf')")
        )
    with pytest.raises(CheckError, match="wrote no file"):
        export_tflite(tmp_path, out, SHAPE, interpreter=script(tmp_path / "p", "pass"))
    slow = script(tmp_path / "p", "import time; time.sleep(30)")
    with pytest.raises(CheckError, match=r"more than 0\.5 s"):
        export_tflite(tmp_path, out, SHAPE, interpreter=slow, timeout_s=0.5)
    assert list(out.parent.iterdir()) == []


def test_the_job_says_shape_layout_and_samples(tmp_path: Path) -> None:
    body = f"""
import json, shutil, os
job = json.load(open(sys.argv[2] + "/job.json"))
shutil.copy(sys.argv[2] + "/job.json", {str(tmp_path / "seen.json")!r})
shutil.copy(sys.argv[2] + "/calibration.npy", {str(tmp_path / "seen.npy")!r})
open(job["target"], "w").write("tflite")
"""
    python = script(tmp_path / "p", body)
    batches = [np.ones((2, 3, 16, 16)), np.zeros((1, 3, 16, 16))]
    path = export_tflite(tmp_path, tmp_path / "m.tflite", SHAPE, calibration=batches, interpreter=python)
    assert path.read_text() == "tflite"
    seen = (tmp_path / "seen.json").read_text()
    assert '"channels_last": true' in seen
    assert '"int8": true' in seen
    samples = np.load(tmp_path / "seen.npy")
    assert samples.shape == (3, 3, 16, 16)
    assert samples.dtype == np.float32
    with pytest.raises(InputError, match="calibration: samples are"):
        export_tflite(tmp_path, path, (1, 4, 16, 16), calibration=batches, interpreter=python)


def test_velas_summary_is_read_in_its_units(tmp_path: Path) -> None:
    body = f"""
if sys.argv[1] == "-c":
    print("9.9")
else:
    folder = sys.argv[sys.argv.index("--output-dir") + 1]
    if sys.argv[3].endswith("int8.tflite"):
        open(folder + "/m_summary_x.csv", "w").write({SUMMARY!r})
"""
    python = script(tmp_path / "v", body)
    estimate = vela_estimate(tmp_path / "int8.tflite", "ethos-u65-256", interpreter=python)
    assert (estimate.total_cycles, estimate.npu_cycles) == (1200, 900)
    assert (estimate.inference_ms, estimate.sram_bytes, estimate.flash_bytes) == (2.5, 2560, 4096)
    assert (estimate.accelerator, estimate.version) == ("ethos-u65-256", "9.9")
    with pytest.raises(CheckError, match="must be int8"):
        vela_estimate(tmp_path / "fp32.tflite", interpreter=python)


@pytest.mark.slow
@pytest.mark.skipif(
    "DTP_EDGE_PYTHON_TFLITE" not in os.environ, reason="no environment with litert-torch is named"
)
def test_a_pruned_network_agrees_in_litert(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.ReLU(), nn.Conv2d(12, 8, 1), nn.Flatten(), nn.Linear(392, 5)
    )
    network = trace_network(model.eval(), (torch.randn(SHAPE),))
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[:5] = False
    cut = compact(network, keep)
    save_pruned(tmp_path, cut, network, keep, {})
    export_onnx(cut.module, torch.randn(SHAPE), tmp_path / "m.onnx")
    export_tflite(tmp_path, tmp_path / "m.tflite", SHAPE)
    (row,) = check_runtimes(tmp_path / "m.onnx", ["litert"])
    assert row.status == "ok", row.detail
    samples = [np.random.default_rng(0).normal(size=(16, 3, 16, 16)).astype(np.float32)]
    int8 = export_tflite(tmp_path, tmp_path / "int8.tflite", SHAPE, calibration=samples)
    assert int8.stat().st_size < (tmp_path / "m.tflite").stat().st_size
