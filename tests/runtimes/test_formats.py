"""Further formats: made, read back, compared; and every way in which a vendor's environment can fail."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import stand_in
from torch import nn

from dtp_edge.archive import save_pruned
from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.onnx import export_onnx
from dtp_edge.runtimes import FormatRow, make_file
from dtp_edge.runtimes import child as children
from dtp_edge.runtimes.formats.made_file import Limits, Port, Source, Truth
from dtp_edge.runtimes.formats.registry import FORMATS, chosen_formats
from dtp_edge.runtimes.registry import RUNTIMES
from dtp_edge.surgery import compact

SHAPE = (1, 3, 12, 12)
QUICK = Limits(timeout_s=60.0, repeats=3)


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 1), nn.Flatten()
    )
    model.append(nn.Linear(200, 5))
    norm = model[1]
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(torch.rand(12) + 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A cut network's archive and ONNX file, with what it computes in torch."""
    folder = tmp_path_factory.mktemp("net")
    traced = trace_network(network(), (torch.randn(SHAPE),))
    keep = np.ones(traced.n_atoms, dtype=bool)
    keep[:5] = False
    cut = compact(traced, keep)
    save_pruned(folder, cut, traced, keep, {})
    export_onnx(cut.module, torch.randn(SHAPE), folder / "model.onnx")
    inputs = torch.randn(3, *SHAPE)
    with torch.no_grad():
        outputs = torch.stack([cut.module.eval()(x) for x in inputs])
    truth = Truth([inputs.numpy()], [outputs.numpy()])
    samples = [torch.randn(16, *SHAPE).numpy()]
    ports = (Port("input", SHAPE, "float32"),)
    truths = {"fp32": truth, "int8": truth}
    return Source(folder, folder / "model.onnx", ports, truths, samples=samples)


@pytest.fixture
def made(source: Source, tmp_path: Path):
    def make(python: str, limits: Limits = QUICK) -> tuple[FormatRow, Path]:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        pythons = {"openvino": python}
        return make_file(FORMATS["openvino"], "fp32", source, out, limits=limits, interpreters=pythons), out

    return make


def test_a_file_is_there_when_the_runtime_computes_what_torch_does(made, tmp_path: Path) -> None:
    row, out = made(stand_in.openvino(tmp_path))
    assert (row.status, row.version, row.detail) == ("ok", "9.9", "")
    assert row.files == ("model.xml", "model.bin")
    assert sorted(p.name for p in out.iterdir()) == ["model.bin", "model.xml"]
    assert row.bytes == sum(p.stat().st_size for p in out.iterdir())
    assert row.max_abs_diff is not None
    assert row.max_abs_diff < 1e-5
    assert row.same_top1 == 1.0
    assert row.latency_ms is not None
    assert row.placement is not None
    assert row.placement.delegated == pytest.approx(1.0)


def test_a_runtime_that_computes_something_else_leaves_no_file(made, tmp_path: Path) -> None:
    row, out = made(stand_in.openvino(tmp_path, error=0.5))
    assert row.status == "failed"
    assert "differs from torch by 0.5" in row.detail
    assert list(out.iterdir()) == []


HANGS = "import time\ntime.sleep(60)\n"
DIES = "import os\nos.write(2, b'illegal instruction')\nos.abort()\n"
LACKS_PART = "import a_part_that_is_not_there\n"
REFUSES = (
    "def save_model(*a, **k):\n    pass\ndef convert_model(p):\n    raise ValueError('no kernel for Erf')\n"
)
WRITES_NOTHING = "def convert_model(p):\n    return p\ndef save_model(*a, **k):\n    pass\n"
LEAVES_A_LINK = "import os\n" + WRITES_NOTHING.replace(
    "    pass", "    os.symlink('/etc/passwd', a[1]); os.symlink('/etc/passwd', a[1][:-4] + '.bin')"
)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (DIES, "crashed", "SIGABRT: illegal instruction"),
        (LACKS_PART, "missing", "a_part_that_is_not_there"),
        (REFUSES, "failed", "making it: ValueError: no kernel for Erf"),
        (WRITES_NOTHING, "failed", "wrote no model.xml, model.bin"),
        (LEAVES_A_LINK, "failed", "wrote no model.xml, model.bin"),
    ],
)
def test_what_a_vendors_program_does_is_a_row(
    made, tmp_path: Path, body: str, status: str, words: str
) -> None:
    row, out = made(stand_in.environment(tmp_path, body))
    assert row.status == status
    assert words in row.detail
    assert row.install == "dtp-edge env openvino"
    assert list(out.iterdir()) == []


def test_one_that_hangs_is_stopped(made, tmp_path: Path) -> None:
    start = time.monotonic()
    row, out = made(stand_in.environment(tmp_path, HANGS), Limits(timeout_s=3.0))
    assert (row.status, row.detail) == ("timeout", "making it: stopped after 3 s")
    assert time.monotonic() - start < 30
    assert list(out.iterdir()) == []


def test_one_that_prints_megabytes_is_stopped(made, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(children, "MOST_LOG_BYTES", 1 << 20)
    body = "import sys\nwhile True:\n    sys.stderr.write('x' * 4096 + chr(10))\n"
    row, out = made(stand_in.environment(tmp_path, body))
    assert (row.status, row.detail) == ("crashed", "making it: stopped: it printed more than 1 MiB")
    assert list(out.iterdir()) == []


def test_without_the_package_or_the_interpreter_it_is_missing(made, tmp_path: Path) -> None:
    row, _ = made(stand_in.program(tmp_path / "bare", "echo No module named openvino >&2; exit 1"))
    assert row.status == "crashed"
    assert "No module named openvino" in row.detail
    row, _ = made(str(tmp_path / "nothing"))
    assert row.status == "missing"
    assert "cannot be started" in row.detail


def test_int8_is_held_against_onnx_runtimes_int8(source: Source) -> None:
    from dtp_edge.runtimes.child import Outcome
    from dtp_edge.runtimes.formats.made_file import judged

    truth = dataclasses.replace(source.truth["int8"], int8_error=0.1)
    row = FormatRow("pte", "int8", "executorch", "failed")
    near = [o * 1.15 for o in truth.outputs]
    far = [o * 1.25 for o in truth.outputs]
    assert judged(row, Outcome("ok", outputs=near), truth, "int8").status == "ok"
    read = judged(row, Outcome("ok", outputs=far), truth, "int8")
    assert read.status == "failed"
    assert read.error == pytest.approx(0.25, rel=1e-3)
    nothing = [o * float("nan") for o in truth.outputs]
    assert judged(row, Outcome("ok", outputs=nothing), truth, "int8").status == "failed"
    assert judged(row, Outcome("ok", outputs=nothing), truth, "fp32").status == "failed"


def test_formats_are_named_once_and_by_their_names() -> None:
    assert chosen_formats("onnx, PTE,tflite,pte") == ("pte", "tflite")
    assert chosen_formats(["onnx"]) == ()
    with pytest.raises(InputError, match=r"no format is called 'tflight'(.|\n)*tflite"):
        chosen_formats("tflight")
    for one in FORMATS.values():
        assert one.maker.is_file()
        assert RUNTIMES[one.runtime].pins
    assert FORMATS["openvino"].files("model", "int8") == ["model.int8.xml", "model.int8.bin"]


REAL = [(name, precision) for name, one in FORMATS.items() for precision in one.precisions]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(n, p, marks=pytest.mark.more if n in ("openvino", "ncnn") and p == "fp32" else ())
        for n, p in REAL
        if (n, p) != ("openvino", "int8")  # of an int8 ONNX file, which this network has none of
    ],
)
def test_the_real_exporter_and_runtime(name: str, precision: str, source: Source, tmp_path: Path) -> None:
    runtime = FORMATS[name].runtime
    if f"DTP_EDGE_PYTHON_{runtime.upper()}" not in os.environ:
        pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    row = make_file(FORMATS[name], precision, source, tmp_path, limits=Limits(timeout_s=300.0))
    assert row.status == "ok", row.detail
    assert row.placement is not None
    assert row.placement.delegated == pytest.approx(1.0)
    assert {"c", "f"} <= {o.kind.lower()[0] for o in row.placement.operators} | {"f"}
    says = name in ("tflite", "ethosu", "cortexm") or (name, precision) == ("pte", "fp32")
    assert (row.memory_bytes is not None) == says
