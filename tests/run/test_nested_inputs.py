"""Networks that take dicts, lists and tuples of tensors, and layers that are called by keyword."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import dtp_edge as dtp

X, Y = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 16, 1)
        self.c, self.head = nn.Conv2d(16, 8, 3, padding=1), nn.Linear(8, 4)

    def both(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = self.c(input=(self.a(input=x) + 2 * self.b(input=y)).relu()).relu()
        return self.head(input=z.mean(dim=(2, 3)))


class FromDict(Two):
    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.both(batch["second"], batch["first"])


class FromSequence(Two):
    def forward(self, batch: Any) -> torch.Tensor:
        return self.both(batch[0], batch[1])


class Deep(Two):
    def forward(self, x: torch.Tensor, rest: Any, scale: torch.Tensor) -> Any:
        return {"scores": self.both(x, rest["inner"][1][0]), "more": [rest["inner"][0] * scale]}


CASES = {
    "dict": (FromDict, ({"second": X, "first": Y},), ["batch.second", "batch.first"]),
    "list": (FromSequence, ([X, Y],), ["batch.0", "batch.1"]),
    "tuple": (FromSequence, ((X, Y),), ["batch.0", "batch.1"]),
    "deep": (
        Deep,
        (X, {"inner": (torch.ones(1, 5), [Y])}, torch.ones(1, 1)),
        ["x", "rest.inner.0", "rest.inner.1.0", "scale"],
    ),
}


@pytest.mark.parametrize(("name", "free"), [*((name, False) for name in CASES), ("deep", True)])
def test_nested_inputs(name: str, free: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    kind, inputs, names = CASES[name]
    budget = dtp.Budget(macs="60%")
    result = dtp.prune_for_device(
        kind().eval(),
        inputs,
        device="rpi4-ncnn-fp32-1t",
        budget=budget,
        out=tmp_path / "out",
        dynamic_batch=free,
    )
    session = ort.InferenceSession(str(result.onnx))
    assert [i.name for i in session.get_inputs()] == names
    batch = 3 if free else 1
    fresh = pytree.tree_map(lambda x: torch.randn(batch, *x.shape[1:]), inputs)
    fed = dict(zip(names, (x.numpy() for x in pytree.tree_leaves(fresh)), strict=True))
    with torch.no_grad():
        wanted = result.masked(*fresh)
        found = [result.module(*fresh), dtp.load_pruned(tmp_path / "out")(*fresh)]
    for one in (*found, session.run(None, fed)):
        for a, b in zip(pytree.tree_leaves(wanted), pytree.tree_leaves(one), strict=True):
            torch.testing.assert_close(torch.as_tensor(b), a, rtol=1e-4, atol=1e-5)
    assert type(found[1]) is type(wanted)
    assert any(kept < total for kept, total in result.widths.values())


def test_nested_inputs_in_an_own_loop() -> None:
    kind, inputs, _ = CASES["deep"]
    pruner = dtp.TransportPruner(
        kind(), inputs, device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(macs="60%"), total_steps=1
    )
    pruner(*inputs)["scores"].square().sum().backward()
    pruner.step()
    assert pruner.finish().module(*inputs)["scores"].shape == (1, 4)
