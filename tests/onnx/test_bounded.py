"""Outputs near 0 everywhere: right files pass, wrong ones do not hide below a runtime's rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from dtp_edge.onnx import check_onnx, export_onnx


class Map(nn.Module):
    def __init__(self, last: str) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 2, 1)
        self.last = last
        nn.init.constant_(self.head.bias, 1e-7 if last == "tanh" else -16.0)
        if last == "tanh":
            self.head.weight.data *= 1e-7

    def forward(self, x: torch.Tensor) -> Any:
        y, z = self.head(self.body(x).relu()), self.body(x).mean((2, 3))
        if self.last == "softmax":
            return torch.cat([y, torch.zeros_like(y)], 1).softmax(1)[:, :2], z
        y = y.sigmoid() if self.last == "sigmoid" else y.tanh()
        return (y.flatten(2).transpose(1, 2) if self.last == "sigmoid" else y), z


@pytest.mark.parametrize("last", ["sigmoid", "softmax", "tanh"])
@pytest.mark.parametrize("wrong", [0.0, 0.05, 1.0])
def test_an_output_near_zero_is_judged_by_its_own_scale(last: str, wrong: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Map(last).eval(), torch.randn(1, 3, 10, 10)
    path = export_onnx(module, x, tmp_path / "m.onnx")
    with torch.no_grad():
        assert float(module(x)[0].abs().max()) < 2e-6
    model = onnx.load(path)
    stored = next(t for t in model.graph.initializer if list(t.dims) == [2])
    value = numpy_helper.to_array(stored)
    value = value * (1 + wrong) if last == "tanh" else value + np.float32(wrong)
    stored.CopyFrom(numpy_helper.from_array(value.astype(np.float32), stored.name))
    onnx.save(model, path)
    check = check_onnx(path, module, x)
    assert check.passed == (wrong == 0)
    assert wrong == 0 or check.value > 0.02
