"""A graph as JSON and back: the same function, and nothing but tensor operators on the way in."""

from __future__ import annotations

import copy
import json
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from dtp_edge.archive.graph_json import MAX_DEPTH, allowed, graph_from_json, graph_to_json
from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.graph import trace_network
from dtp_edge.surgery import compact

ATEN = torch.ops.aten


def small() -> tuple[fx.Graph, set[str]]:
    """x -> clamp(x * w, -inf, 2)[:, ::2] + zeros of another type."""
    graph = fx.Graph()
    x, w = graph.placeholder("x"), graph.get_attr("part.weight")
    y = graph.call_function(ATEN.mul.Tensor, (x, w))
    y = graph.call_function(ATEN.clamp.default, (y, -math.inf, 2.0))
    y = graph.call_function(ATEN.slice.Tensor, (y, 1, 0, 9, 2))
    size = graph.call_function(ATEN.sym_size.int, (x, 0))
    rows = graph.call_function(operator.mul, (size, 1))
    keywords = {"dtype": torch.float64, "device": torch.device("cpu"), "pin_memory": False}
    zeros = graph.call_function(ATEN.zeros.default, ([rows, 2],), keywords)
    parts = graph.call_function(ATEN.cat.default, ([y, zeros], 1))
    graph.output((parts,))
    return graph, {"part.weight"}


def run(graph: fx.Graph, x: torch.Tensor) -> torch.Tensor:
    root = nn.Module()
    root.part = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        root.part.weight.copy_(torch.tensor([[1.0, -2.0, 3.0, 0.5]]))
    return fx.GraphModule(root, graph)(x)[0]


def test_what_is_read_back_computes_the_same() -> None:
    graph, names = small()
    text = json.dumps(graph_to_json(graph), allow_nan=False)  # JSON of the standard: no Infinity
    x = torch.randn(3, 4, dtype=torch.float64)
    again = graph_from_json(json.loads(text), names)
    expected = torch.cat(
        [(x * torch.tensor([1.0, -2.0, 3.0, 0.5])).clamp(max=2.0)[:, ::2], torch.zeros(3, 2).double()], 1
    )
    assert torch.equal(run(again, x), expected)
    assert torch.equal(run(graph, x), expected)
    assert graph_to_json(again) == json.loads(text)


def test_a_traced_network_comes_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
    x = torch.randn(2, 3, 8, 8)
    network = trace_network(model.eval(), x)
    graph_module = compact(network, np.ones(network.n_atoms, dtype=bool)).graph_module
    names = {n.target for n in graph_module.graph.nodes if n.op == "get_attr"}
    again = graph_from_json(json.loads(json.dumps(graph_to_json(graph_module.graph))), names)
    torch.testing.assert_close(fx.GraphModule(graph_module, again)(x), model(x))


@pytest.mark.parametrize(
    "overload",
    [
        ATEN.from_file.default,
        ATEN.set_.source_Tensor,
        ATEN.resize_.default,
        ATEN.set_data.default,
        ATEN._to_cpu.default,
        torch.ops.prim.device.default,
    ],
    ids=str,
)
def test_operators_that_touch_files_or_storage_are_refused(overload: Any) -> None:
    assert not allowed(overload)
    graph = fx.Graph()
    graph.output(graph.call_function(overload, (graph.placeholder("x"),)))
    with pytest.raises(UnsupportedError, match="cannot be stored"):
        graph_to_json(graph)


def test_ordinary_operators_are_allowed() -> None:
    found = [
        ATEN.convolution.default,
        ATEN.add_.Tensor,
        ATEN.gelu.default,
        ATEN.cat.default,
        ATEN.topk.default,
    ]
    assert all(map(allowed, found))


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


def renamed(nodes: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The input under another name, wherever it is read."""
    return json.loads(json.dumps(nodes).replace('"x"', json.dumps(name)))


Change = Callable[[list[dict[str, Any]]], Any]
DAMAGE: dict[str, Change] = {
    "another operator": lambda n: n[2].update(target="aten.from_file.default"),
    "Python": lambda n: n[2].update(target="os.system"),
    "an attribute of one": lambda n: n[2].update(target="aten.mul.__class__"),
    "a size function that is none": lambda n: n[2].update(target="size.eval"),
    "a module call": lambda n: n[2].update(op="call_module", target="part"),
    "a tensor that is not stored": lambda n: n[1].update(target="part.secret"),
    "a tensor name with a path": lambda n: n[1].update(target="../part"),
    "a node that comes later": lambda n: n[2].update(args=[{"node": n[4]["name"]}, 1]),
    "the same name twice": lambda n: n[1].update(name=n[0]["name"]),
    "a name that is code": lambda n: n.__setitem__(slice(None), renamed(n, "x; import os")),
    "a keyword that is code": lambda n: n[2].update(kwargs={"a b": 1}),
    "deep nesting": lambda n: n[2].update(args=[nested(MAX_DEPTH + 2)]),
    "a long text": lambda n: n[2].update(args=["a" * 1001]),
    "an unknown type": lambda n: n[2].update(args=[{"dtype": "__class__"}]),
    "an unknown value": lambda n: n[2].update(args=[{"code": "1"}]),
    "no output": lambda n: n.pop(),
    "no nodes": lambda n: n.clear(),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_changed_file_is_refused(what: str) -> None:
    graph, names = small()
    nodes = copy.deepcopy(graph_to_json(graph))
    graph_from_json(copy.deepcopy(nodes), names)
    DAMAGE[what](nodes)
    with pytest.raises(InputError):
        graph_from_json(nodes, names)


def test_values_that_have_no_form_are_refused() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(ATEN.add.Tensor, (x, x), {"alpha": 1j}))
    with pytest.raises(UnsupportedError, match="complex"):
        graph_to_json(graph)
