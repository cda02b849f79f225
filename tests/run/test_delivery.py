"""What a run leaves: names and metadata in the ONNX file, and int8 counted, written and judged as int8."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import CheckError
from dtp_edge.int8.quantise import is_quantized
from dtp_edge.onnx import evaluate_onnx
from dtp_edge.run import delivery as deliver
from dtp_edge.run import facts as summary
from dtp_edge.run import quantised
from dtp_edge.run.options import NOBODY, Options
from dtp_edge.training import DataSource, Recipe, load_data
from dtp_edge.training.objectives.classification import Classification

INT8_DEVICE = "stm32h747-cubeai-int8"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(32, 48, 3, 2, 1), nn.ReLU(), nn.Conv2d(48, 32, 1), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(image)).mean((2, 3)))


@pytest.fixture(scope="module")
def data() -> DataSource:
    return load_data("digits", image_size=16)


@pytest.fixture(scope="module")
def run(data: DataSource, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, dtp.PruneResult]:
    torch.manual_seed(0)
    model = Net()
    result = dtp.prune_for_device(
        model,
        torch.zeros(1, 1, 16, 16),
        device=INT8_DEVICE,
        budget=dtp.Budget(flash="70%"),
        data=data,
        recipe=Recipe.for_epochs(2),
        out=tmp_path_factory.mktemp("runs") / "int8",
        int8=True,
    )
    return model, result


def test_the_file_says_what_it_is_and_keeps_its_names(run) -> None:
    model, result = run
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    for path, precision in ((result.onnx, None), (result.onnx_int8, "int8")):
        file = onnx.load(path)
        found = {p.key: p.value for p in file.metadata_props}
        assert found["dtp_edge.device"] == INT8_DEVICE
        assert found["dtp_edge.version"] == dtp.__version__
        assert "70%" in found["dtp_edge.budget"]
        assert json.loads(found["dtp_edge.widths"]) == {n: list(w) for n, w in result.widths.items()}
        assert found["dtp_edge.dense_weights_sha256"] == digest.hexdigest()
        assert found.get("dtp_edge.precision") == precision
        assert [i.name for i in file.graph.input] == ["image"]
        assert (file.ir_version, file.opset_import[0].version) == (10, 18)


def test_a_simplifier_that_changes_a_weight_ends_the_run(tmp_path: Path, monkeypatch) -> None:
    def simplify(file):
        weight = max(file.graph.initializer, key=lambda t: len(t.raw_data))
        value = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
        weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))
        return file, True

    monkeypatch.setattr("dtp_edge.onnx.export.onnxsim.simplify", simplify)
    torch.manual_seed(0)
    with pytest.raises(CheckError, match="ONNX Runtime"):
        dtp.prune_for_device(
            Net(),
            torch.zeros(1, 1, 16, 16),
            device=INT8_DEVICE,
            budget=dtp.Budget(macs="70%"),
            out=tmp_path / "r",
        )
    assert not (tmp_path / "r").exists()


def test_the_budget_is_counted_in_int8_where_the_profile_is_int8(run) -> None:
    model, result = run
    rows = {row["metric"]: row for row in result.report["budgets"]}
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    biases = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    overhead = rows["flash_bytes"]["dense_predicted"] - (weights + 4 * biases)  # int8 and 32-bit biases
    assert 0 <= overhead < weights, "weights were not counted at one byte each"
    assert rows["flash_bytes"]["pruned_predicted"] <= 0.7 * rows["flash_bytes"]["dense_predicted"]


def test_the_int8_file_is_int8_and_the_report_has_its_own_accuracy(run, data: DataSource) -> None:
    _, result = run
    assert is_quantized(result.onnx_int8)
    accuracy = result.report["accuracy"]
    assert accuracy["int8"] == pytest.approx(evaluate_onnx(result.onnx_int8, data.test.ordered(64)))
    assert accuracy["pruned"] == pytest.approx(evaluate_onnx(result.onnx, data.test.ordered(64)), abs=1e-3)


def test_what_is_judged_is_the_int8_file(data: DataSource, tmp_path: Path, monkeypatch) -> None:
    """Both files of the run above are right on the same images: here their accuracies are told apart."""
    seen = {}

    def quantise(source, target, calibration, method, per_channel):
        target.write_bytes(b"int8")
        seen.update(source=source.name, samples=len(list(calibration)), method=method)
        return SimpleNamespace(method="entropy", tried=[])

    accuracies = {"model.onnx": 0.9, "model.int8.onnx": 0.8}
    monkeypatch.setattr(quantised, "quantize_onnx", quantise)
    monkeypatch.setattr(quantised, "evaluate_onnx", lambda path, loader: accuracies[path.name])
    task = SimpleNamespace(network=SimpleNamespace(module=None), whole=None)
    cut, options = (
        SimpleNamespace(task=task, training=None),
        Options(dtp.Budget(macs="50%"), int8_method="entropy"),
    )
    found = quantised.quantise(cut, tmp_path / "model.onnx", data, Classification(), options, NOBODY)  # type: ignore[arg-type]
    assert seen == {"source": "model.onnx", "samples": 256, "method": "entropy"}
    assert (found["accuracy"], found["fp32_accuracy"]) == (0.8, 0.9)
    cut = SimpleNamespace(
        training=SimpleNamespace(
            accuracy={"pruned": 0.9}, intervals={}, why_no_interval="", objective=Classification()
        )
    )
    reported = summary._accuracy(deliver.Delivered(cut, (), int8=found))  # type: ignore[arg-type]
    assert reported is not None
    assert (reported["pruned"], reported["int8"]) == (0.9, 0.8)


def test_an_own_loop_writes_int8_and_a_free_batch_too(data: DataSource, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = {"device": INT8_DEVICE, "budget": dtp.Budget(flash="70%"), "total_steps": 2, "int8": True}
    with pytest.raises(dtp.UnsupportedError, match="int8 needs data"):
        dtp.TransportPruner(Net(), torch.zeros(1, 1, 16, 16), **given)
    pruner = dtp.TransportPruner(Net(), torch.zeros(1, 1, 16, 16), data=data, dynamic_batch=True, **given)
    result = pruner.finish(out=tmp_path / "own")
    assert is_quantized(result.onnx_int8)
    assert {"model.onnx", "model.int8.onnx"} <= {row["path"] for row in result.report["files"]}
    (entry,) = onnx.load(result.onnx).graph.input
    assert entry.type.tensor_type.shape.dim[0].dim_param
    assert result.report["run"]["settings"] == {"int8": True, "dynamic_batch": True}


def test_ranges_come_from_training_images_only(run, data: DataSource) -> None:
    seen = np.concatenate(list(data.calibration(256)))
    train = np.concatenate([x.numpy() for x, _ in data.train.ordered(256)])
    test = {x.tobytes() for batch, _ in data.test.ordered(256) for x in batch.numpy()}
    assert {x.tobytes() for x in seen} <= {x.tobytes() for x in train}
    assert not {x.tobytes() for x in seen} & test


def test_files_are_for_everyone_the_umask_lets_in(run, tmp_path: Path) -> None:
    _, result = run
    (tmp_path / "new").touch()
    files = {f.name: oct(f.stat().st_mode) for f in result.out.iterdir() if f.is_file()}
    assert set(files.values()) == {oct((tmp_path / "new").stat().st_mode)}, files
