"""Names of layers that the code of a graph cannot hold are refused by name; other odd ones are pruned."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import UnsupportedError
from dtp_edge.graph import trace_network


class Top(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, nn.Conv2d(3, 8, 3))
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(getattr(self, self.name)(x).relu())


class Nested(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.parts = nn.Sequential()
        self.parts.add_module(name, nn.Conv2d(3, 8, 3))
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.parts(x).relu())


IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [Top, Nested])
@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_name_that_no_code_can_hold_is_refused(name: str, kind: type[Any]) -> None:
    with pytest.raises(UnsupportedError, match="cannot be the name of a part") as caught:
        trace_network(kind(name), (IMAGE,))
    assert repr(name) in caught.value.what


@pytest.mark.parametrize("name", ["graph", "code", "meta", "recompile"])
def test_a_name_of_the_graph_module_itself_is_refused_at_the_top_alone(name: str) -> None:
    with pytest.raises(UnsupportedError, match="cannot be the name of a part"):
        trace_network(Top(name), (IMAGE,))
    assert any(name in key for key in _pruned(Nested(name)).state_dict())


@pytest.mark.parametrize("name", ["a'b", "a b", "training_", "match", "class", "in"])
@pytest.mark.parametrize("kind", [Top, Nested])
def test_other_odd_names_are_pruned(name: str, kind: type[Any]) -> None:
    assert any(name in key for key in _pruned(kind(name)).state_dict())


class Heads(nn.Module):
    """Layers that are called what Python calls its own, and a width that only a graph can be cut at."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12)
        self.heads = nn.ModuleDict(
            {"class": nn.Conv2d(12, 4, 1), "in x": nn.ModuleDict({"in": nn.Conv2d(12, 8, 1)})}
        )
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.norm(self.first(x)).relu()
        inner = self.heads["in x"]["in"](y.reshape(-1, 12, 6, 6)).relu()  # type: ignore[index]
        return self.heads["class"](y), self.last(inner)


def test_keywords_are_stored_and_copied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    budget, out = dtp.Budget(macs="60%"), tmp_path / "out"
    result = dtp.prune_for_device(Heads().eval(), IMAGE, device="rpi4-ncnn-fp32-1t", budget=budget, out=out)
    assert isinstance(result.module, torch.fx.GraphModule)
    stored = dtp.load_pruned(out)
    assert "heads.in x.in.weight" in stored.state_dict()
    with pytest.raises(UnsupportedError, match=r"heads\.class"):
        pickle.dumps(stored)
    for module in (stored, copy.deepcopy(stored)):
        for wanted, found in zip(result.module(IMAGE), module(IMAGE), strict=True):
            assert torch.equal(wanted, found)


def _pruned(network: nn.Module) -> nn.Module:
    budget = dtp.Budget(macs="80%")
    return dtp.prune_for_device(network, IMAGE, device="rpi4-ncnn-fp32-1t", budget=budget).module
