"""GELU is written so that ONNX Runtime makes one kernel of it, with the same result."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from helpers.onnx_passes import rewritten
from torch import nn

from dtp_edge.onnx import export_onnx


class Shared(nn.Module):
    """The halved sum has a second reader: its node must stay as it is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = 0.5 * (1.0 + torch.erf(x / 2**0.5))
        return x * half + half


def run(model: onnx.ModelProto, x: np.ndarray, optimised_to: str | None = None) -> np.ndarray:
    options = ort.SessionOptions()
    if optimised_to:
        options.optimized_model_filepath = optimised_to
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def test_gelu_becomes_one_kernel_with_the_same_numbers(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(24, 32), nn.GELU(), nn.Linear(32, 8)).eval()
    x = torch.randn(1, 24)
    path = export_onnx(network, (x,), tmp_path / "n.onnx")
    out = run(onnx.load(path), x.numpy(), str(tmp_path / "o.onnx"))
    kinds = collections.Counter(node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node)
    assert kinds["Gelu"] == 1
    assert kinds["Erf"] == 0
    assert out == pytest.approx(network(x).detach().numpy(), abs=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_reordering_changes_no_number(tmp_path, shared):
    torch.manual_seed(1)
    network = Shared() if shared else nn.GELU()
    x = torch.randn(4, 1000) * 3.0
    program = torch.onnx.export(network, (x,), dynamo=True, opset_version=18, verbose=False)
    assert program is not None
    model = program.model_proto
    before = run(model, x.numpy())
    new = rewritten(model)
    onnx.checker.check_model(new)
    order = [[list(node.input) for node in m.graph.node] for m in (model, new)]
    assert (order[0] == order[1]) == shared
    assert run(new, x.numpy()) == pytest.approx(before, abs=1e-6)


class Gated(nn.Module):
    """The factor of the halved sum is another tensor, and is made after it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = 0.5 * (1.0 + torch.erf(x / 2**0.5))
        return torch.tanh(x + 1.0) * half


def test_a_factor_that_is_made_later_is_waited_for(tmp_path):
    x = torch.randn(4, 50)
    path = export_onnx(Gated(), (x[:1],), tmp_path / "n.onnx", dynamic_batch=True)
    assert run(onnx.load(path), x.numpy()) == pytest.approx(Gated()(x).numpy(), abs=1e-6)
