"""The layout rules against the graph that ONNX Runtime itself makes of the same network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from dtp_edge.cost.kernels import lower
from dtp_edge.cost.layout import BLOCKED, PLAIN, STEM, BlockedLayout
from dtp_edge.graph import trace_network
from dtp_edge.onnx import export_onnx
from dtp_edge.profiles.profile import Fusion, Layout

FUSION = Fusion(activations=("relu", "sigmoid", "hardsigmoid", "hardswish"), add=True)


def runtime_graph(path, folder):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx").graph.node


class Residual(nn.Module):
    def __init__(self, stem: int, inner: int, depthwise: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, padding=1)
        self.a = nn.Conv2d(stem, inner, 1)
        self.b = nn.Conv2d(inner, inner, 3, padding=1, groups=inner if depthwise else 1)
        self.c = nn.Conv2d(inner, stem, 1)
        self.fc = nn.Linear(stem, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.b(self.a(x).relu()).relu()
        return self.fc((self.c(y) + x).mean((2, 3)))


def runtime_block(tmp_path) -> int:
    conv = nn.Sequential(nn.Conv2d(64, 5, 3), nn.Conv2d(5, 5, 1))
    x = torch.randn(1, 64, 8, 8)
    nodes = runtime_graph(export_onnx(conv, (x,), tmp_path / "block.onnx"), tmp_path)
    if not any(n.domain.endswith("nchwc") for n in nodes):
        pytest.skip("this processor's ONNX Runtime has no blocked layout")
    return 16 if "avx512f" in open("/proc/cpuinfo").read() else 8


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(("stem", "inner"), [(16, 32), (12, 48), (20, 37), (37, 64), (24, 36), (33, 33)])
def test_plain_kernels_and_copies_are_those_of_the_runtime(tmp_path, stem, inner, depthwise):
    block = runtime_block(tmp_path)
    torch.manual_seed(0)
    model = Residual(stem, inner, depthwise).eval()
    x = torch.randn(1, 3, 16, 16)
    nodes = runtime_graph(export_onnx(model, (x,), tmp_path / "m.onnx"), tmp_path)
    graph = trace_network(model, (x,)).layers
    lowered = lower(graph, FUSION)
    layout = BlockedLayout(graph, lowered.kernels, lowered.views, Layout("blocked", block, 4))
    found = layout.assign(np.array([d.size for d in layout.channels()], dtype=float))
    convolutions = [i for i, k in enumerate(lowered.kernels) if k.op == "conv2d"]
    plain = sum(n.op_type in ("Conv", "FusedConv") and not n.domain.endswith("nchwc") for n in nodes)
    assert sum(found.variant[i] == PLAIN for i in convolutions) == plain
    for key, op in (("reorder_in", "ReorderInput"), ("reorder_out", "ReorderOutput")):
        assert sum(c.key == key for c in found.copies) == sum(n.op_type == op for n in nodes), key


def test_soft_widths_are_costed_as_aligned_ones():
    model = Residual(32, 64, False).eval()
    graph = trace_network(model, (torch.randn(1, 3, 8, 8),)).layers
    lowered = lower(graph, FUSION)
    layout = BlockedLayout(graph, lowered.kernels, lowered.views, Layout("blocked", 16, 4))
    dense = np.array([d.size for d in layout.channels()], dtype=float)
    soft = layout.assign(np.where(dense > 16, dense - 0.3, dense))
    odd = layout.assign(np.where(dense > 16, dense - 1, dense))
    convolutions = [i for i, k in enumerate(lowered.kernels) if k.op == "conv2d"]
    assert {int(soft.variant[i]) for i in convolutions} == {BLOCKED, STEM}
    assert (odd.variant[convolutions] == PLAIN).any()


class Branches(nn.Module):
    """As in MobileOne and RepVGG: branches that are added, one of them a batch norm alone, one a zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(16, channels, 1)
        self.a = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.norm = nn.BatchNorm2d(channels)
        self.out = nn.Conv2d(channels, 16, 1)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.out(((self.a(x) + 0) + self.norm(x)).relu())


def test_a_norm_of_its_own_is_a_convolution_and_adding_zero_is_nothing(tmp_path):
    runtime_block(tmp_path)
    model = Branches(32).eval()
    x = torch.randn(1, 16, 12, 12)
    nodes = runtime_graph(export_onnx(model, (x,), tmp_path / "m.onnx"), tmp_path)
    kernels = lower(trace_network(model, (x,)).layers, replace(FUSION, norm_is_convolution=True)).kernels
    assert len(kernels) == sum(n.op_type == "Conv" for n in nodes) == 4  # and no add, no norm, no relu
    assert [k.family for k in kernels if k.op == "batch_norm"] == ["depthwise"]
    assert "batch_norm" in {k.op for k in lower(trace_network(model, (x,)).layers, FUSION).kernels}
