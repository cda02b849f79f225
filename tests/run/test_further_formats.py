"""Further formats of a whole run: files and rows, what fails alone, and what fails the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import stand_in
from torch import nn

import dtp_edge as dtp
from dtp_edge.cli.check import check
from dtp_edge.cli.prune import prune
from dtp_edge.errors import CheckError, InputError
from dtp_edge.report import read_report
from dtp_edge.run.further_formats import Wanted, promises, wanted_formats
from dtp_edge.runtimes import FormatRow, Placement
from dtp_edge.runtimes.placement import Operator

DEVICE = "rpi4-ncnn-fp32-1t"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 36, 4)).eval()


def run(out: Path, **options: object) -> dtp.PruneResult:
    budget = dtp.Budget(macs="60%")
    return dtp.prune_for_device(
        network(), torch.randn(2, 3, 8, 8), device=DEVICE, budget=budget, out=out, **options
    )  # type: ignore[arg-type]


def test_a_run_hands_over_the_format_with_its_placement(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DTP_EDGE_PYTHON_OPENVINO", stand_in.openvino(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = run(
        Path("out"), formats="onnx,openvino", require_delegated="95%"
    )  # as people write it: no whole path
    (row,) = result.formats
    assert (row.status, row.files) == ("ok", ("model.xml", "model.bin"))
    assert {"model.onnx", "model.xml", "model.bin"} <= {p.name for p in (tmp_path / "out").iterdir()}
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]
    report = read_report(tmp_path / "out" / "report.json")
    (told,) = report["formats"]
    assert told["placement"]["delegated"] == pytest.approx(1.0)
    assert told["placement"]["by"] == "predicted time"
    shares = {kind["kind"]: kind["share"] for kind in told["placement"]["taken"]}
    times = {x["kernel"]: x["pruned_latency_ms"] for x in report["layers"] if x["fused_into"] is None}
    both = times["conv3x3"] + times["linear"]
    assert shares["Convolution"] == pytest.approx(times["conv3x3"] / both)
    assert any(c["name"] == "share left behind, model.xml" for c in report["checks"])
    assert {f["path"]: f["what"] for f in report["files"]}["model.xml"].startswith("OpenVINO IR")
    assert "OpenVINO" in (tmp_path / "out" / "report.html").read_text()


def test_what_stays_behind_fails_the_run_by_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DTP_EDGE_PYTHON_OPENVINO", stand_in.openvino(tmp_path, kernels=stand_in.LEFT))
    with pytest.raises(CheckError, match=r"left behind(.|\n)*odd \(FullyConnected"):
        run(tmp_path / "out", formats="openvino", require_delegated=0.99)
    assert not (tmp_path / "out").exists()
    result = run(tmp_path / "out", formats="openvino")
    placement = result.formats[0].placement
    assert placement is not None
    assert [o.name for o in placement.left] == ["odd"]


def test_a_format_that_fails_leaves_the_rest_of_the_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DTP_EDGE_PYTHON_OPENVINO", stand_in.openvino(tmp_path, error=1.0))
    monkeypatch.setenv("DTP_EDGE_PYTHON_NCNN", str(tmp_path / "no-such-python"))
    result = run(tmp_path / "out", formats="openvino,ncnn")
    assert [row.status for row in result.formats] == ["failed", "missing"]
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"model.onnx", "model.safetensors", "report.json"} <= names
    assert not {"model.xml", "model.bin", "model.ncnn.param"} & names
    text = " ".join(result.report["warnings"])
    assert "openvino fp32 was not made (failed): differs from torch by 1" in text
    assert "`dtp-edge env ncnn`" in text


def test_the_command_ends_with_4_and_says_which(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DTP_EDGE_PYTHON_OPENVINO", stand_in.openvino(tmp_path, error=1.0))
    given = [
        "dscnn",
        "--device",
        DEVICE,
        "--macs",
        "70%",
        "--out",
        str(tmp_path / "out"),
        "--format",
        "openvino",
    ]
    done = CliRunner().invoke(prune, given)
    assert isinstance(done.exception, CheckError)
    assert done.exception.exit_code == 4
    assert "not made: openvino fp32" in str(done.exception)
    assert (tmp_path / "out" / "model.onnx").is_file()
    assert "openvino fp32" in done.output
    monkeypatch.setenv("DTP_EDGE_PYTHON_OPENVINO", stand_in.openvino(tmp_path, kernels=stand_in.LEFT))
    model = str(tmp_path / "out" / "model.onnx")
    looked = CliRunner().invoke(check, [model, "--runtime", "openvino"])
    assert looked.exception is None
    assert "odd (FullyConnected)" in " ".join(looked.output.split())
    failed = CliRunner().invoke(check, [model, "--runtime", "openvino", "--require-delegated", "99.9%"])
    assert isinstance(failed.exception, CheckError)
    assert "left behind: odd" in str(failed.exception)


def test_ram_is_judged_by_the_runtimes_plan() -> None:
    placement = Placement("XNNPACK", (Operator("c", "Conv2d", True, 1.0),), "predicted time")
    row = FormatRow(
        "pte", "fp32", "executorch", "ok", ("model.pte",), placement=placement, memory_bytes=120_000
    )
    wanted = Wanted(("pte",), None, "executorch")
    (good,) = promises([row], wanted, 130_000.0)
    (bad,) = promises([row], wanted, 100_000.0)
    assert (good.passed, bad.passed) == (True, False)
    assert "--ram 83333" in bad.hint
    assert promises([row], wanted, None) == []


def test_a_plan_prices_ram_as_the_run_will() -> None:
    typed = ["resnet8", "--device", DEVICE, "--ram", "80%", "--plan", "--json"]
    by_profile, by_litert = (
        json.loads(CliRunner().invoke(prune, [*typed, *more]).stdout)
        for more in ([], ["--format", "tflite", "--ram-by", "litert"])
    )
    dense = [
        next(row["dense"] for row in told[0]["rows"] if row["metric"] == "peak_ram_bytes")
        for told in (by_profile, by_litert)
    ]
    assert dense[0] < dense[1]  # LiteRT copies what it pads


def test_a_promise_of_which_the_runtime_says_nothing_is_broken() -> None:
    row = FormatRow("pte", "fp32", "executorch", "ok", ("model.pte",), memory_of="no plan: no such kernel")
    (check,) = promises([row], Wanted(("pte",), delegated=0.95), None)
    assert not check.passed
    assert "does not say who computes what" in check.detail
    (plan,) = promises([row], Wanted(("pte",), None, "executorch"), 1e6)
    assert not plan.passed
    assert "no plan: no such kernel" in plan.detail


def test_ram_is_that_of_the_file_in_the_profiles_precision() -> None:
    rows = [
        FormatRow("tflite", precision, "litert", "ok", (f"{precision}.tflite",), memory_bytes=size)
        for precision, size in (("fp32", 400_000), ("int8", 100_000))
    ]
    wanted = Wanted(("tflite",), None, "litert")
    (int8,) = promises(rows, wanted, 150_000.0, "w8a8")
    assert (int8.name, int8.passed) == ("RAM by litert's plan, int8.tflite", True)
    (fp32,) = promises(rows, wanted, 150_000.0, "fp32")
    assert (fp32.name, fp32.passed) == ("RAM by litert's plan, fp32.tflite", False)


def test_checked_files_break_it_by_saying_nothing_too() -> None:
    from dtp_edge.cli.placed import require_share
    from dtp_edge.runtimes import RuntimeRow

    def row(runtime: str, placement: Placement | None = None) -> RuntimeRow:
        return RuntimeRow(runtime, "1", "ok", 0.0, 0.0, None, "", "", placement)

    whole = Placement("XNNPACK", (Operator("c", "Conv2d", True, 1.0),), "predicted time")
    assert require_share([row("onnxruntime"), row("litert", whole)], "95%") == ["onnxruntime"]
    with pytest.raises(CheckError, match="litert does not say"):
        require_share([row("onnxruntime"), row("litert")], "95%")
    with pytest.raises(CheckError, match="onnxruntime does not say"):
        require_share([row("onnxruntime"), row("litert", whole)], "95%", ["onnxruntime", "litert"])
    with pytest.raises(CheckError, match="no runtime that ran"):
        require_share([row("onnxruntime")], "95%")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("", "95%", None), "needs a format"),
        (("pte", "1.5", None), "no share of the time"),
        (("pte", "x", None), "no share of the time"),
        (("tflite", None, "executorch"), "no file of executorch"),
        (("tflite", None, "openvimo"), "the plan of openvimo is not known"),
        (("tflight", None, None), "no format is called"),
        (("pte", None, None, "folded_norm"), "no rewrite is called 'folded_norm'(.|\n)*folded_norms"),
    ],
)
def test_contradictions_are_refused(given: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        wanted_formats(*given)
