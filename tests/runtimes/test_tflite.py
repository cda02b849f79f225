"""LiteRT export and Vela: a missing or failing converter is told; the real ones where installed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import stand_in
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


def converter(folder: Path, body: str) -> str:
    """Write a stand-in for LiteRT's environment whose converter is `body`."""
    return stand_in.environment(folder, body, package="litert_torch")


CONVERTS = """
import json, pathlib
def to_channel_last_io(module, args):
    return ("last", module)
def convert(module, example):
    return Converted(module, example)
class Converted:
    def __init__(self, module, example):
        self.module, self.example = module, example
    def export(self, path):
        last = isinstance(self.module, tuple)
        pathlib.Path(path).write_text(json.dumps([last, list(self.example[0].shape)]))
"""


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pruned")
    network = trace_network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), (torch.randn(SHAPE),))
    keep = np.ones(network.n_atoms, dtype=bool)
    save_pruned(folder, compact(network, keep), network, keep, {})
    return folder


def test_an_absent_converter_names_what_makes_it(tmp_path: Path, pruned: Path) -> None:
    python = stand_in.environment(tmp_path, "", package="something_else")
    with pytest.raises(UnsupportedError, match=r"litert_torch(.|\n)*dtp-edge env litert"):
        export_tflite(pruned, tmp_path / "m.tflite", SHAPE, interpreter=python)
    python = script(tmp_path / "v", "sys.exit('/usr/bin/python: No module named ethosu')")
    with pytest.raises(UnsupportedError, match=r"dtp-edge\[vela\]"):
        vela_estimate(tmp_path / "m.tflite", interpreter=python)
    with pytest.raises(InputError, match="cannot be started"):
        vela_estimate(tmp_path / "m.tflite", interpreter=str(tmp_path / "nothing"))


def test_a_failing_or_silent_converter_leaves_nothing(tmp_path: Path, pruned: Path) -> None:
    out = tmp_path / "out" / "m.tflite"
    refuses = "def to_channel_last_io(m, args):\n    raise ValueError('no kernel for erf')\n"
    for body, words in (
        (refuses, "failed: ValueError: no kernel for erf"),
        (CONVERTS.replace("pathlib.Path(path).write_text", "str"), "failed: FileNotFoundError"),
        ("import os\nos.abort()\n", "crashed: SIGABRT"),
    ):
        with pytest.raises(CheckError, match=words):
            export_tflite(pruned, out, SHAPE, interpreter=converter(tmp_path / "env", body))
    hangs = converter(tmp_path / "slow", "import time; time.sleep(60)")
    with pytest.raises(CheckError, match="timeout: stopped after 8 s"):
        export_tflite(pruned, out, SHAPE, interpreter=hangs, timeout_s=8)
    assert list(out.parent.iterdir()) == []


def test_the_converter_gets_shape_and_layout(tmp_path: Path, pruned: Path) -> None:
    python = converter(tmp_path, CONVERTS)
    path = export_tflite(pruned, tmp_path / "m.tflite", SHAPE, interpreter=python)
    assert json.loads(path.read_text()) == [True, [1, 16, 16, 3]]
    export_tflite(pruned, path, SHAPE, channels_last=False, interpreter=python)
    assert json.loads(path.read_text()) == [False, [1, 3, 16, 16]]
    with pytest.raises(InputError, match="calibration: samples are"):
        export_tflite(pruned, path, (1, 4, 16, 16), calibration=[np.ones((2, 3, 16, 16))], interpreter=python)


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
    "DTP_EDGE_PYTHON_LITERT" not in os.environ, reason="no environment with litert-torch is named"
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
