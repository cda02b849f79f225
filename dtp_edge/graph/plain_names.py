"""Networks whose layers are called what Python keeps for itself (`class`, `in`), for tools that write code.

torch.onnx.export writes `self.class` into the code of its own graphs and cannot read it back.
"""

from __future__ import annotations

import keyword
from typing import Any

from torch import fx, nn

from dtp_edge.graph.lazy import LazyGraphModule, graph_module_over, has_keyword
from dtp_edge.graph.trace import trace
from dtp_edge.ops.nodes import lookup


def with_plain_names(module: nn.Module, inputs: tuple[Any, ...]) -> nn.Module:
    """Return the module, or its traced graph with other names where a part's name is a keyword."""
    names = [name for name, _ in module.named_modules()] + list(module.state_dict())
    if not any(map(has_keyword, names)):
        return module
    graph_module, _ = trace(module, inputs)
    taken = {str(node.target) for node in graph_module.graph.nodes if node.op == "get_attr"}
    new = {old: _plain(old, taken) for old in sorted(taken) if has_keyword(old)}
    graph: fx.Graph = graph_module.graph
    tensors = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            value = lookup(graph_module, str(node.target))
            node.target = new.get(str(node.target), node.target)
            tensors[str(node.target)] = value
    return graph_module_over(graph, tensors, LazyGraphModule).eval()


def _plain(name: str, taken: set[str]) -> str:
    """Return `name` with a line behind each keyword, and as many more as no other name has."""
    line = "_"
    while True:
        found = ".".join(part + line if keyword.iskeyword(part) else part for part in name.split("."))
        if found not in taken:
            return found
        line += "_"
