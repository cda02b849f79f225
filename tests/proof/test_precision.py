"""Networks in 64 or 16 bits are pruned in float32 and given back in theirs; which is said, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import UnsupportedError

DEVICE = "rpi4-ncnn-fp32-1t"
KINDS = {torch.float64: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}


class Net(nn.Module):
    def __init__(self, written: str = "") -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24), nn.Conv2d(24, 16, 3)
        self.head, self.written = nn.Linear(16, 4), written

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(self.norm(self.a(x)).relu())
        if self.written == "size":
            one, two = y.split([8, 8], 1)
            y = torch.cat([one.relu(), two], 1)
        y = y.mean((2, 3))
        if self.written == "branch" and x.dtype != torch.float32:
            y = y.flip(1)
        return self.head(y)


def made(kind: torch.dtype, written: str = "") -> Net:
    torch.manual_seed(0)
    return Net(written).to(kind).eval()


@pytest.mark.parametrize("written", ["", "size"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_result_is_in_the_precision_of_the_network(
    kind: torch.dtype, written: str, tmp_path: Path
) -> None:
    model, x = made(kind, written), torch.randn(1, 3, 9, 9, dtype=kind)
    budget = dtp.Budget(macs="60%")
    result = dtp.prune_for_device(model, x, device=DEVICE, budget=budget, out=tmp_path / "out")
    name = str(kind).removeprefix("torch.")
    assert any(f"the network is {name}" in text for text in result.warnings)
    assert {p.dtype for p in result.module.parameters()} == {kind}
    assert next(model.parameters()).dtype == kind
    with torch.no_grad():
        found, masked, stored = (
            result.module(x),
            result.masked(x),
            dtp.load_pruned(tmp_path / "out")(x.float()),
        )
    assert (found.dtype, masked.dtype, stored.dtype) == (kind, kind, torch.float32)
    for one in (found, masked):
        assert float((one.float() - stored).abs().max()) <= KINDS[kind] * float(stored.abs().max())
    assert any(kept < total for kept, total in result.widths.values())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_own_loop_feeds_its_own_precision(kind: torch.dtype) -> None:
    pruner = dtp.TransportPruner(
        made(kind),
        torch.randn(1, 3, 9, 9, dtype=kind),
        device=DEVICE,
        budget=dtp.Budget(macs="60%"),
        total_steps=2,
    )
    for _ in range(2):
        pruner(torch.randn(2, 3, 9, 9, dtype=kind)).square().sum().backward()
        pruner.step()
    assert pruner.finish().module(torch.randn(2, 3, 9, 9, dtype=kind)).dtype == kind


def prune(model: Any, x: torch.Tensor) -> Any:
    return dtp.prune_for_device(model, x, device=DEVICE, budget=dtp.Budget(macs="60%"))


def test_a_network_that_is_another_function_in_float32_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="something else there") as caught:
        prune(made(torch.float64, "branch"), torch.randn(1, 3, 9, 9, dtype=torch.float64))
    assert caught.value.exit_code == 2


def test_an_example_in_float32_will_do() -> None:
    result = prune(made(torch.bfloat16), torch.randn(1, 3, 9, 9))
    assert next(result.module.parameters()).dtype == torch.bfloat16


def test_weights_that_overflow_float32_are_refused() -> None:
    model = made(torch.float64)
    with torch.no_grad():
        model.head.weight[0, 0] = 1e300
    with pytest.raises(dtp.DtpEdgeError, match=r"head\.weight"):
        prune(model, torch.randn(1, 3, 9, 9, dtype=torch.float64))
