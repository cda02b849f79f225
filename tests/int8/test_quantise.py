"""int8 files against fp32 and against exact arithmetic, over a small trained-like network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.int8 import quantise as int8
from dtp_edge.int8.quantise import is_quantized, precision_refusal, quantize_onnx
from dtp_edge.onnx import export_onnx
from dtp_edge.onnx.agreement import compare_onnx, evaluate_onnx


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 13, 3, padding=1), nn.ReLU())
        self.depth = nn.Sequential(nn.Conv2d(13, 13, 3, padding=1, groups=13), nn.ReLU6())
        self.point = nn.Conv2d(13, 13, 1)
        self.head = nn.Linear(13, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.point(self.depth(x))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("int8") / "fp32.onnx"
    x = torch.randn(1, 1, 12, 12)
    torch.onnx.export(Net().eval(), (x,), str(path), dynamo=True, opset_version=18, input_names=["image"])
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {"dtp_edge.device": "test-board"})
    model.ir_version = 10
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(24, 1, 12, 12)).astype(np.float32)


def batches(images: np.ndarray, size: int = 5) -> list[dict[str, np.ndarray]]:
    return [{"image": images[i : i + size]} for i in range(0, len(images), size)]


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_every_method_gives_a_close_int8_file(
    fp32: Path, images: np.ndarray, tmp_path: Path, method: str
) -> None:
    result = quantize_onnx(fp32, tmp_path / "q.onnx", batches(images), method)
    assert result.method == method
    assert result.path == tmp_path / "q.onnx"
    assert result.agreement.relative_error < 0.2
    assert result.agreement.samples == 6  # every 4th of 24 is held out
    assert [p.name for p in tmp_path.iterdir()] == ["q.onnx"]
    assert compare_onnx(fp32, result.path, batches(images)).relative_error < 0.2


def test_file_is_qdq_opset_18_ir_10_with_per_channel_weights_and_metadata(fp32, images, tmp_path) -> None:
    path = quantize_onnx(fp32, tmp_path / "q.onnx", batches(images), "minmax").path
    model = onnx.load(str(path))
    assert model.ir_version == 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    props = {p.key: p.value for p in model.metadata_props}
    assert props == {
        "dtp_edge.device": "test-board",
        "dtp_edge.precision": "int8",
        "dtp_edge.calibration": "minmax",
    }
    assert not any(n.op_type.startswith("QLinear") for n in model.graph.node)
    scales = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    weights = [
        n for n in model.graph.node if n.op_type == "DequantizeLinear" and scales[n.input[1]].size == 13
    ]
    assert len(weights) >= 3  # three convolutions with 13 output channels each
    assert is_quantized(path)
    assert not is_quantized(fp32)


def test_weights_are_the_rounded_fp32_weights(fp32, images, tmp_path) -> None:
    weight = initializers(fp32)["point.weight"].astype(np.float64)
    finest = np.abs(weight).max(axis=(1, 2, 3)) / 127
    for same_bits, coarsest in ((True, 2.1), (False, 1.001)):
        file = quantize_onnx(fp32, tmp_path / "q.onnx", batches(images), "minmax", same_bits=same_bits).path
        stored = initializers(file)
        scale = stored["point.weight_scale"].astype(np.float64)
        assert np.all((scale > 0.5 * finest) & (scale < coarsest * finest))
        steps = weight / scale[:, None, None, None]
        rounded = stored["point.weight_quantized"]
        within = np.abs(steps) <= 127
        assert np.abs(steps - rounded)[within].max() <= 0.5001
        assert np.all(np.abs(rounded[~within]) == 127)


def initializers(path: Path) -> dict[str, np.ndarray]:
    return {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(str(path)).graph.initializer}


def test_best_picks_the_method_with_the_smallest_held_out_error(fp32, images, tmp_path) -> None:
    result = quantize_onnx(fp32, tmp_path / "q.onnx", batches(images))
    assert {row.method for row in result.tried} == set(int8.METHODS)
    assert result.agreement.relative_error == min(row.relative_error for row in result.tried)
    held_out = [{"image": images[i : i + 1]} for i in range(3, 24, 4)]
    assert compare_onnx(fp32, result.path, held_out).relative_error == pytest.approx(
        result.agreement.relative_error
    )


def test_same_input_same_bytes(fp32, images, tmp_path) -> None:
    first = quantize_onnx(fp32, tmp_path / "a.onnx", batches(images), "percentile").path
    second = quantize_onnx(fp32, tmp_path / "b.onnx", batches(images, size=7), "percentile").path
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_run_leaves_nothing_behind(fp32, images, tmp_path, monkeypatch) -> None:
    def broken(*args, **options) -> Path:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(int8, "finish_model", broken)
    with pytest.raises(RuntimeError, match="disk on fire"):
        quantize_onnx(fp32, tmp_path / "q.onnx", batches(images), "minmax")
    assert list(tmp_path.iterdir()) == []


def test_excluded_nodes_stay_in_float(fp32, images, tmp_path) -> None:
    convs = [n.name for n in onnx.load(str(fp32)).graph.node if n.op_type == "Conv"]
    all_int8 = quantize_onnx(fp32, tmp_path / "a.onnx", batches(images), "minmax", same_bits=False)
    some = quantize_onnx(fp32, tmp_path / "b.onnx", batches(images), "minmax", exclude=convs, same_bits=False)
    assert all_int8.float_ops == ("ReduceMean",)
    assert set(some.float_ops) >= {"Conv", "ReduceMean"}
    assert some.agreement.relative_error < all_int8.agreement.relative_error


def test_evaluate_counts_right_answers_at_any_batch_size(fp32, images) -> None:
    session = ort.InferenceSession(str(fp32))
    labels = np.array([session.run(None, {"image": im[None]})[0].argmax() for im in images])
    wrong = labels.copy()
    wrong[:6] = (wrong[:6] + 1) % 10
    for size in (1, 7, 24):
        loader = [
            (torch.from_numpy(images[i : i + size]), torch.from_numpy(wrong[i : i + size]))
            for i in range(0, 24, size)
        ]
        assert evaluate_onnx(fp32, loader) == pytest.approx(18 / 24)
        assert evaluate_onnx(fp32, loader, limit=6) == 0.0


def test_bad_calls_are_refused(fp32, images, tmp_path) -> None:
    with pytest.raises(InputError, match="One of best, minmax"):
        quantize_onnx(fp32, tmp_path / "q.onnx", batches(images), "magic")
    with pytest.raises(InputError, match="at least 2 samples"):
        quantize_onnx(fp32, tmp_path / "q.onnx", batches(images[:1]))
    with pytest.raises(InputError, match="lacks input 'image'"):
        quantize_onnx(fp32, tmp_path / "q.onnx", [{"x": images}])
    with pytest.raises(InputError, match=r"image.*\[1, 1, 12, 12\]"):
        quantize_onnx(fp32, tmp_path / "q.onnx", [images[:, :, :5]])
    with pytest.raises(InputError, match="no such file"):
        quantize_onnx(tmp_path / "none.onnx", tmp_path / "q.onnx", batches(images))
    with pytest.raises(InputError, match="gave no sample"):
        evaluate_onnx(fp32, [])
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_int8_operators_is_refused(tmp_path) -> None:
    node = onnx.helper.make_node("Erf", ["x"], ["y"])
    info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opset), str(tmp_path / "erf.onnx"))
    with pytest.raises(UnsupportedError, match="no operator that can be quantised"):
        quantize_onnx(tmp_path / "erf.onnx", tmp_path / "q.onnx", [np.zeros((4, 4), np.float32)])


def test_what_only_float_operators_read_is_not_rounded(tmp_path) -> None:
    random = np.random.default_rng(0)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["a"]),
        onnx.helper.make_node("Softmax", ["a"], ["b"], axis=-1),
        onnx.helper.make_node("MatMul", ["b", "v"], ["y"]),
    ]
    weights = [
        onnx.numpy_helper.from_array(random.normal(size=(6, 6)).astype(np.float32), n) for n in ("w", "v")
    ]
    info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 6]) for n in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    opset = [onnx.helper.make_opsetid("", 18)]
    path = tmp_path / "attention.onnx"
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opset), str(path))
    samples = random.normal(size=(32, 6)).astype(np.float32)
    result = quantize_onnx(path, tmp_path / "q.onnx", [samples], "minmax")
    graph = onnx.load(str(result.path)).graph
    made = {out: node for node in graph.node for out in node.output}
    (softmax,) = [n for n in graph.node if n.op_type == "Softmax"]
    assert made[softmax.input[0]].op_type == "MatMul"  # read as it was computed
    (last,) = [n for n in graph.node if n.op_type == "MatMul" and n is not made[softmax.input[0]]]
    assert made[last.input[0]].op_type == "DequantizeLinear"  # an int8 operator still reads int8
    assert result.agreement.relative_error < 0.05


def test_a_convolution_before_a_float_operator_still_writes_int8(images, tmp_path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Hardswish(), nn.Conv2d(4, 4, 3)).eval()
    path = export_onnx(net, torch.zeros(1, 1, 12, 12), tmp_path / "m.onnx", input_names=["image"])
    graph = onnx.load(str(quantize_onnx(path, tmp_path / "q.onnx", batches(images), "minmax").path)).graph
    for conv in (n for n in graph.node if n.op_type == "Conv"):
        assert {n.op_type for n in graph.node if conv.output[0] in n.input} == {"QuantizeLinear"}


def test_int8_is_refused_with_a_reason_for_a_float_profile() -> None:
    board = SimpleNamespace(name="board", precision="fp32")
    assert "no int8 kernels" in (precision_refusal(board) or "")
    board.precision = "int8"
    assert precision_refusal(board) is None
