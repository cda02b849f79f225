"""`squeeze` of a dimension that is not 1 does nothing in torch, and must do nothing in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dtp_edge.onnx import check_onnx, export_onnx


class Squeezed(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.conv = way, nn.Conv1d(8, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).unsqueeze(2)  # [batch, 8, 1, 18]
        if self.way == "method":
            y = y.squeeze(1).squeeze(-2)
        elif self.way == "function":
            y = torch.squeeze(y, dim=-1)
        elif self.way == "several":
            y = torch.squeeze(y, (1, 2))
        elif self.way == "operator":
            y = torch.ops.aten.squeeze.dims(y, [1, 3])
        elif self.way == "nothing":  # as surgery leaves a squeeze of what is not 1
            y = torch.ops.aten.squeeze.dims(y, [])
        return y * 2


@pytest.mark.parametrize("way", ["method", "function", "several", "operator", "nothing", "none"])
def test_only_ones_are_squeezed(way: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Squeezed(way).eval(), torch.randn(1, 8, 20)
    check = check_onnx(export_onnx(module, x, tmp_path / "a.onnx"), module, x)
    assert check.passed, check
