"""The first link of the proof: what was traced is the user's network; and what a failed proof says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import CheckError, UnsupportedError
from dtp_edge.graph import trace_network
from dtp_edge.proof import (
    Check,
    check_depends_on_input,
    check_masked_equals_compact,
    check_traced_equals_own,
    require,
)
from dtp_edge.surgery import compact

aten = torch.ops.aten


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
        self.second, self.last = nn.Conv2d(16, 12, 3), nn.Linear(12, 5)
        self.register_buffer("steps", torch.zeros(()))
        nn.init.uniform_(self.norm.running_mean), nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(self.first(x)).relu()).mean((2, 3))

    def forward(self, x: torch.Tensor) -> Any:
        y = self.features(x)
        return {"scores": self.last(y).sigmoid(), "pair": (y, [x.mean()])}


def traced() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = Small().eval()
    return model, trace_network(model, torch.randn(2, 3, 9, 9))


def test_a_sound_trace_passes() -> None:
    check = check_traced_equals_own(*traced())
    assert check.passed
    assert check.value <= 1e-6


def swap_operator(graph: torch.fx.Graph) -> None:
    next(n for n in graph.nodes if n.target is aten.relu.default).target = aten.sigmoid.default


def swap_epsilon(graph: torch.fx.Graph) -> None:
    node = next(n for n in graph.nodes if "batch_norm" in str(n.target))
    node.args = tuple(0.3 if isinstance(a, float) and a < 0.01 else a for a in node.args)


def drop_output(graph: torch.fx.Graph) -> None:
    output = next(n for n in graph.nodes if n.op == "output")
    _first, *others = output.args[0]
    output.args = ((others[0], *others),)


def keep_batch(graph: torch.fx.Graph) -> None:
    output = next(n for n in graph.nodes if n.op == "output")
    first, *others = output.args[0]
    with graph.inserting_before(output):
        twice = graph.call_function(aten.cat.default, ([first, first],))
    output.args = ((twice, *others),)


def half_output(graph: torch.fx.Graph) -> None:
    output = next(n for n in graph.nodes if n.op == "output")
    first, *others = output.args[0]
    with graph.inserting_before(output):
        half = graph.call_function(aten._to_copy.default, (first,), {"dtype": torch.float16})
    output.args = ((half, *others),)


MUTATIONS = {
    swap_operator: "",
    swap_epsilon: "",
    drop_output: "shape",
    keep_batch: "output 0 has shape [4, 5], your network's [2, 5]",
    half_output: "torch.float16",
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda f: f.__name__)
def test_a_graph_that_is_wrong_in_one_place_fails(mutate: Any) -> None:
    model, network = traced()
    mutate(network.graph_module.graph)
    network.graph_module.recompile()
    check = check_traced_equals_own(model, network)
    assert not check.passed
    assert MUTATIONS[mutate] in check.detail
    with pytest.raises(CheckError, match="your network == traced") as caught:
        require([check])
    assert caught.value.exit_code == 4


class Capped(nn.Module):
    """No bias, so that an example of zeros shows nothing, and a bound that usual inputs do not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.last(nn.functional.relu6(y) + y.tanh())


@pytest.mark.parametrize("example", [torch.zeros(1, 8), torch.randn(1, 8)], ids=["zeros", "noise"])
@pytest.mark.parametrize(("right", "wrong"), [(aten.tanh, aten.sin), (aten.relu6, aten.relu)])
def test_no_example_hides_a_fault(right: Any, wrong: Any, example: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = Capped().eval()
    network = trace_network(model, example)
    assert check_traced_equals_own(model, network).passed
    next(n for n in network.graph_module.graph.nodes if n.target is right.default).target = wrong.default
    network.graph_module.recompile()
    check = check_traced_equals_own(model, network)
    assert not check.passed
    assert check.value > 0.01


def test_the_module_is_left_as_it_was_found() -> None:
    model, network = traced()
    model.train()
    check_traced_equals_own(model, network)
    assert model.training
    assert float(model.steps) == 0


class Draws(Small):
    def forward(self, x):
        return nn.functional.dropout(self.features(x))


class Counts(Small):
    def forward(self, x):
        self.steps += 1
        return self.last(self.features(x)) + self.steps


class Size(Small):
    def forward(self, x):
        return self.features(x), x.shape[2]


class Complex(Small):
    def forward(self, x):
        return torch.complex(self.features(x), self.features(x))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Draws, "random numbers"),
        (Counts, "steps: the network writes to this buffer"),
        (Complex, "complex"),
        (Size, "returns a int"),
    ],
)
def test_what_no_proof_can_hold_for_is_refused(kind: type[Small], text: str) -> None:
    model = kind().eval()
    with pytest.raises(UnsupportedError, match=text) as caught:
        dtp.prune_for_device(
            model, torch.randn(1, 3, 9, 9), device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(macs="70%")
        )
    assert caught.value.exit_code == 2
    assert float(model.steps) == 0


class PicksTheBest(nn.Module):
    """Values so close that float32 takes others for the best than float64 does."""

    offset: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.register_buffer("offset", torch.arange(400.0)[torch.randperm(400)] * 1e-5)

    def forward(self, x):
        return (self.last(self.first(x).relu()).sum(-1, keepdim=True) + self.offset).topk(5).indices.float()


def test_float64_decides_whatever_the_float32_difference() -> None:
    torch.manual_seed(0)
    network = trace_network(PicksTheBest().eval(), torch.randn(1, 8))
    keep = np.ones(network.n_atoms, dtype=bool)
    result = compact(network, keep, in_place=False)
    graph = result.graph_module.graph
    best = next(node for node in graph.nodes if node.target is aten.topk.default)
    with graph.inserting_before(best):  # loses in float32 what decides between two candidates
        up = graph.call_function(aten.add.Tensor, (best.args[0], 4096.0))
        down = graph.call_function(aten.sub.Tensor, (up, 4096.0))
    best.args = (down, *best.args[1:])
    result.graph_module.recompile()
    x = torch.randn(1, 8)
    assert float((network.graph_module(x) - result.graph_module(x)).abs().max()) > 1
    check = check_masked_equals_compact(network, keep, result)
    assert check.passed
    assert "float64" in check.detail
    best.args = (best.args[0], 5, -1, False)
    result.graph_module.recompile()
    assert not check_masked_equals_compact(network, keep, result).passed


def test_an_exception_is_a_failed_check_that_says_where() -> None:
    _, network = traced()
    keep = np.ones(network.n_atoms, dtype=bool)
    result = compact(network, keep, in_place=False)
    node = next(n for n in result.graph_module.graph.nodes if n.target is aten.relu.default)
    with result.graph_module.graph.inserting_before(node):
        wrong = result.graph_module.graph.call_function(aten.view.default, (node.args[0], [7, 7]))
    node.args = (wrong,)
    result.graph_module.recompile()
    check = check_masked_equals_compact(network, keep, result)
    assert not check.passed
    assert "RuntimeError" in check.detail
    assert "view" in check.detail


class Dies(nn.Module):
    """A layer norm over one channel is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def test_a_network_whose_output_is_a_constant_is_refused() -> None:
    torch.manual_seed(0)
    network = trace_network(Dies().eval(), torch.randn(1, 6))
    found = {}
    for left in (1, 4):
        keep = np.arange(network.n_atoms) < left
        found[left] = check_depends_on_input(network, keep, compact(network, keep))
    assert not found[1].passed
    assert found[4].passed
    with pytest.raises(CheckError, match="whatever the input is") as caught:
        require([found[1]])
    assert "Raise the budget" in str(caught.value)
    assert "report this network" not in str(caught.value)
    with pytest.raises(CheckError, match="report this network"):
        require([Check("a", False, 1, 0)])
