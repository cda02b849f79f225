"""ONNX in: what the reader builds computes what ONNX Runtime computes, and can be pruned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import nn

from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.graph import trace_network
from dtp_edge.onnx.reader import load_onnx
from dtp_edge.zoo import create


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_(0, 0.3)
    return module.eval()


class Mixed(nn.Module):
    """Operators that the zoo does not use: layer norm, attention, split, pad, upsampling, PReLU ..."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.slope = nn.PReLU(12)
        self.up = nn.ConvTranspose2d(6, 8, 2, stride=2)
        self.q, self.k, self.v = (nn.Linear(14, 14) for _ in range(3))
        self.norm = nn.LayerNorm(14)
        self.head = nn.Linear(14, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.slope(self.stem(x)).split([6, 6], 1)
        a = F.interpolate(F.max_pool2d(F.pad(a, (0, 1, 1, 0)), 3, 2), scale_factor=2.0, mode="bilinear")
        up = F.avg_pool2d(self.up(b), 2)
        both = torch.cat([a[:, :, : up.shape[2], : up.shape[3]], F.gelu(up)], 1)
        tokens = self.norm(both.flatten(2).transpose(1, 2))
        scores = (self.q(tokens) @ self.k(tokens).transpose(1, 2) * 14**-0.5).softmax(-1)
        return self.head((scores @ self.v(tokens)).mean(1)).clamp(-3, 3)


def export(module: nn.Module, example: torch.Tensor, path: Path, *, dynamo: bool) -> Path:
    torch.onnx.export(module, (example,), str(path), dynamo=dynamo, opset_version=18)
    return path


@pytest.mark.parametrize("name", ["resnet8", "dscnn", "mobilenetv2", "mixed"])
@pytest.mark.parametrize("dynamo", [True, False])
def test_reads_what_onnx_runtime_runs(tmp_path: Path, name: str, dynamo: bool) -> None:
    module = randomise(Mixed() if name == "mixed" else create(name))
    shape = (1, 3, 16, 16) if name == "mixed" else {"dscnn": (1, 1, 49, 10)}.get(name, (1, 3, 32, 32))
    example = torch.randn(shape)
    try:
        path = export(module, example, tmp_path / "m.onnx", dynamo=dynamo)
    except Exception as error:  # the older exporter needs packages that a newer torch may have dropped
        pytest.skip(f"torch cannot export it this way: {type(error).__name__}")
    network, inputs = load_onnx(path)
    session = ort.InferenceSession(str(path))
    expected = session.run(None, {session.get_inputs()[0].name: example.numpy()})[0]
    with torch.no_grad():
        found = network(example).numpy()
    assert inputs[0].shape == example.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(expected).max() > 0
    assert trace_network(network, inputs).groups


def test_what_it_reads_trains_at_any_batch(tmp_path: Path) -> None:
    path = export(randomise(create("resnet8")), torch.randn(1, 3, 32, 32), tmp_path / "m.onnx", dynamo=True)
    network, _ = load_onnx(path)
    network(torch.randn(4, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_an_unknown_operator_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Unique", ["x"], ["y"]), helper.make_node("Det", ["x"], ["z"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [])
    graph = helper.make_graph(nodes, "g", [x], [y, z])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="Det, Unique"):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"", b"not a protobuf", b"\x08\x0a\x12"])
def test_a_file_that_is_no_network(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError):
        load_onnx(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="no such file"):
        load_onnx(tmp_path / "missing.onnx")


def test_the_reader_is_found_under_its_old_name() -> None:
    from dtp_edge.onnx import reader
    from dtp_edge.zoo import onnx_reader

    assert onnx_reader.load_onnx is reader.load_onnx
