"""Inputs by keyword: the same network, file and masks as by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.graph.arguments import example_arguments, in_order

DEVICE = "rpi4-ncnn-fp32-1t"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor, scale: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        y = self.up(x).relu()
        y = y if scale is None else y * scale
        return self.down(y if mask is None else y + mask)


X, SCALE, MASK = torch.randn(1, 8), torch.rand(1, 1) + 1, torch.rand(1, 1)


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({"x": X}, ["x"]),
        ({"mask": MASK, "x": X}, ["x", "mask"]),
        ({"mask": MASK, "scale": SCALE, "x": X}, ["x", "scale", "mask"]),
    ],
)
def test_a_network_called_by_keywords_is_pruned_and_exported(
    inputs: dict[str, Tensor], names: list[str], tmp_path: Path
) -> None:
    result = dtp.prune_for_device(
        Net(), inputs, device=DEVICE, budget=dtp.Budget(macs="50%"), out=tmp_path / "r"
    )
    session = ort.InferenceSession(str(result.onnx))
    assert [i.name for i in session.get_inputs()] == names
    found = session.run(None, {name: inputs[name].numpy() for name in names})[0]
    wanted = result.module.eval()(**inputs).detach().numpy()
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-4, atol=1e-5)
    again = dtp.load_pruned(tmp_path / "r")(*example_arguments(Net(), inputs))
    np.testing.assert_allclose(again.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_an_own_loop_calls_it_by_keywords() -> None:
    budget = dtp.Budget(macs="50%")
    inputs = {"x": X, "mask": MASK}
    pruner = dtp.TransportPruner(Net(), inputs, device=DEVICE, budget=budget, total_steps=2)
    torch.testing.assert_close(pruner(x=X, mask=MASK), pruner(X, None, MASK))
    torch.testing.assert_close(pruner(X, mask=MASK), pruner(X, None, MASK))
    assert not torch.equal(pruner(x=X, mask=MASK), pruner(x=X, mask=MASK + 1))
    assert dtp.feasibility(Net(), inputs, [DEVICE], budget)[0]["feasible"]


class OnlyByKeyword(Net):
    def forward(self, x: Tensor, *, mask: Tensor) -> Tensor:
        return self.down(self.up(x).relu() + mask)


@pytest.mark.parametrize(
    ("model", "inputs", "error", "said"),
    [
        (Net(), {"x": X, "typo": X}, InputError, "typo"),
        (Net(), {"mask": X}, InputError, "x"),
        (OnlyByKeyword(), {"x": X, "mask": MASK}, UnsupportedError, "mask"),
    ],
)
def test_what_has_no_place_is_refused(
    model: nn.Module, inputs: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        in_order(model, **inputs)
