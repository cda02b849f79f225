"""Scales with which every runtime computes the same: on exact sums, and in ONNX Runtime against itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F

from dtp_edge.files.sessions import open_session
from dtp_edge.int8 import quantize_onnx
from dtp_edge.int8.operators import gelu_nodes
from dtp_edge.onnx import export_onnx


class Blocks(nn.Module):
    """Everything whose result is rounded: residual sums, concatenation, product, means, pools, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(12, 12, 3, padding=1) for _ in range(6))
        self.gate = nn.Conv2d(12, 12, 1)
        self.mix = nn.Conv2d(24, 12, 1)
        self.head = nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for a, b in zip(self.convs[:4:2], self.convs[1:4:2], strict=True):
            x = torch.relu(x + b(torch.relu(a(x))))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = F.avg_pool2d(torch.cat([x, F.relu6(self.convs[4](x))], dim=1), 2)
        x = self.mix(x)
        return self.head((x + F.gelu(self.convs[5](x))).mean((2, 3)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("scales")
    fp32 = export_onnx(Blocks().eval(), (torch.randn(1, 3, 16, 16),), folder / "fp32.onnx")
    return fp32, quantize_onnx(fp32, folder / "int8.onnx", [pixels(12, 1)], "minmax").path


def pixels(count: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 256, (count, 3, 16, 16))
    return ((values / 255 - 0.45) / 0.225).astype(np.float32)


def test_optimised_and_literal_runs_give_the_same_bits(files) -> None:
    images = pixels(60, 5)
    one, two = open_session(files[1]), open_session(files[1], optimise=False)
    for image in images:
        a, b = (s.run(None, {"x": image[None]})[0] for s in (one, two))
        assert np.array_equal(a, b)


def test_no_sum_of_a_convolution_lies_near_the_middle_between_two_steps(files) -> None:
    """Every sum, in exact integers, against the step it is rounded to: at least half a product away."""
    model = onnx.load(str(files[1]))
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output}
    readers = {name: node for node in model.graph.node for name in node.input}
    checked = 0
    for conv in (n for n in model.graph.node if n.op_type == "Conv"):
        after = readers[conv.output[0]]
        while after.op_type in ("Relu", "Clip"):
            after = readers[after.output[0]]
        if after.op_type != "QuantizeLinear":
            continue
        weight, source = producer[conv.input[1]], producer[conv.input[0]]
        product = values[weight.input[1]].astype(np.float64) * float(values[source.input[1]])
        ratio = product / float(values[after.input[1]])  # of one product to the output's step
        sums = np.arange(-(2**14), 2**14)[None] * ratio[:, None]
        sums = np.where(np.abs(sums) < 256, sums, 0)
        away = np.abs(sums - np.floor(sums) - 0.5).min(axis=1)
        assert np.all((away > 0.4 * ratio) | (ratio >= 0.99))
        checked += 1
    assert checked >= 5


def test_what_no_weight_sets_apart_is_set_apart_by_its_own_step(files) -> None:
    """Means, sums and products of int8 values: their step is no power of two of the values' own."""
    model = onnx.load(str(files[1]))
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    producer = {name: node for node in model.graph.node for name in node.output}
    checked: list[str] = []
    for node in model.graph.node:
        maker = producer.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        while maker is not None and maker.op_type == "Relu":
            maker = producer[maker.input[0]]
        if maker is None or maker.op_type not in ("AveragePool", "GlobalAveragePool", "Add", "Mul", "Concat"):
            continue
        if any(getattr(producer.get(n), "op_type", "") != "DequantizeLinear" for n in maker.input):
            continue  # a float result: any step will do
        scales = [values[producer[name].input[1]] for name in maker.input]
        source = np.prod(scales, dtype=np.float64) if maker.op_type == "Mul" else float(scales[0])
        octaves = np.log2(float(values[node.input[1]]) / source)
        assert abs(octaves - np.rint(octaves)) > 1e-4, maker.op_type
        checked.append(maker.op_type)
    assert {"AveragePool", "GlobalAveragePool", "Add", "Mul"} <= set(checked)


def test_activation_steps_cover_their_range_and_are_at_most_twice_as_large(files, tmp_path) -> None:
    fine = quantize_onnx(files[0], tmp_path / "fine.onnx", [pixels(12, 1)], "minmax", same_bits=False).path
    model = onnx.load(str(files[1]))
    old, new = (
        {i.name: numpy_helper.to_array(i) for i in m.graph.initializer} for m in (onnx.load(str(fine)), model)
    )
    roundings = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    for node in roundings:
        if node.input[1] not in old:
            continue  # the mean of a pool, which shared its input's
        before, after = float(old[node.input[1]]), float(new[node.input[1]])
        assert 0.999 * before <= after <= 2.01 * before
        lowest = [-float(v[node.input[2]]) * s for v, s in ((old, before), (new, after))]
        assert abs(lowest[0] - lowest[1]) <= after


def test_gelu_stays_in_float(files) -> None:
    fp32 = onnx.load(str(files[0]))
    names = gelu_nodes(ir.from_proto(fp32))
    kinds = sorted(n.op_type for n in fp32.graph.node if n.name in names)
    assert kinds.count("Erf") == 1
    assert "Add" in kinds
    assert kinds.count("Mul") >= 2
    model = onnx.load(str(files[1]))
    producer = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.name in names and node.op_type == "Add":
            assert all(
                getattr(producer.get(name), "op_type", "") != "DequantizeLinear" for name in node.input
            )


def test_another_evaluator_gives_the_same(files) -> None:
    """The reference implementation of ONNX, in numpy, node by node."""
    from onnx.reference import ReferenceEvaluator

    image = pixels(1, 9)
    got = open_session(files[1]).run(None, {"x": image})[0]
    model = onnx.load(str(files[1]))
    model.opset_import[0].version = 21  # it has no QuantizeLinear of opset 18, which is the same
    want = ReferenceEvaluator(model).run(None, {"x": image})[0]
    assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


def test_fine_scales_are_a_choice(files, tmp_path) -> None:
    fine = quantize_onnx(files[0], tmp_path / "fine.onnx", [pixels(12, 1)], "minmax", same_bits=False).path
    session = ort.InferenceSession(str(fine), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": pixels(1, 2)})[0].shape == (1, 10)
    assert fine.read_bytes() != files[1].read_bytes()
