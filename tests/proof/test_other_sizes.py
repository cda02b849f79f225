"""A compact graph runs at every image size that the dense network takes, or it is said that it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.graph import MaskedNetwork, trace_network
from dtp_edge.proof import with_free_sizes
from dtp_edge.proof.equality import randomise_tensors
from dtp_edge.surgery import Compact, compact

DEVICE, SIZE = "rpi4-ncnn-fp32-1t", 24


class Halves(nn.Module):
    """Its source has channel counts written in, so it cannot be cut in place; any image size will do."""

    def __init__(self, rule: str = "") -> None:
        super().__init__()
        self.rule = rule
        self.first, self.norm = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.second, self.head = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 4, 1)
        self.table = nn.Parameter(torch.randn(4, SIZE // 2, SIZE // 2))
        self.strides = torch.tensor([2.0, 4.0])

    def forward(self, x: torch.Tensor) -> Any:
        height, width = x.shape[2:]
        a, b = self.norm(self.first(x)).relu().split([8, 8], 1)
        y = self.head(self.second(a * b).relu())
        if self.rule == "table":
            return y + self.table
        at = torch.arange(y.shape[3]).type_as(y) * self.strides[0].item()
        if (self.rule, height > 60) == ("bound", True):
            y = y * 2
        if (self.rule, height % 16 == 8) == ("multiple", True):
            y = y * 2
        if (self.rule, height == width) == ("square", True):
            y = y * 2
        return {
            "map": nn.functional.interpolate(y, scale_factor=2),
            "at": y.flatten(2) @ y.flatten(2).mT,
            "x": at,
        }


def cut(rule: str = "") -> tuple[Any, np.ndarray, Compact]:
    torch.manual_seed(0)
    network = trace_network(Halves(rule).eval(), torch.randn(1, 3, SIZE, SIZE))
    randomise_tensors(network)
    keep = np.arange(network.n_atoms) % 3 > 0
    result = compact(network, keep)
    assert result.kind == "graph"
    return network, keep, result


def test_a_graph_runs_at_the_sizes_of_the_dense_network() -> None:
    network, keep, fixed = cut()
    result, note = with_free_sizes(network, keep, fixed)
    assert note is None
    assert not network.node_sites  # so the masked network is the user's own code, at any size
    masked = MaskedNetwork(network, keep).eval()
    for shape in ((1, 3, SIZE, SIZE), (3, 3, 40, 64), (2, 3, 64, 64), (1, 3, 10, 18)):
        x = torch.randn(shape)
        with torch.no_grad():
            wanted, found = masked(x), result.module(x)
        assert list(wanted) == list(found)
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert fixed.module(torch.randn(1, 3, 40, 64))["x"].shape == (SIZE // 2,)  # a constant of the example
    first = dict(fixed.module.named_parameters())["first.weight"]
    assert dict(result.module.named_parameters())["first.weight"] is first


@pytest.mark.parametrize("rule", ["bound", "multiple", "square"])
def test_where_the_code_decides_by_a_size_it_stays_fixed_and_that_is_said(rule: str) -> None:
    result, note = with_free_sizes(*(made := cut(rule)))
    assert result is made[2]
    assert note is not None
    assert note.startswith(f"the compact network takes images of {SIZE} x {SIZE} only")


def test_a_network_of_one_size_has_nothing_to_say() -> None:
    result, note = with_free_sizes(*(made := cut("table")))
    assert (result, note) == (made[2], None)


@pytest.mark.parametrize("kept_as", ["attribute", "buffer"])
def test_a_stored_graph_runs_at_other_sizes_too(kept_as: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Halves().eval()
    if kept_as == "buffer":
        strides = model.strides
        del model.strides
        model.register_buffer("strides", strides)
    budget = dtp.Budget(macs="70%")
    pruner = dtp.TransportPruner(
        model, torch.randn(1, 3, SIZE, SIZE), device=DEVICE, budget=budget, total_steps=1
    )
    result = pruner.finish(out=tmp_path / "out")
    assert result.warnings == []
    again, x = dtp.load_pruned(tmp_path / "out"), torch.randn(2, 3, 48, 56)
    with torch.no_grad():
        wanted, found = result.module.eval()(x), again.eval()(x)
    assert wanted["map"].shape == (2, 4, 48, 56)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)
