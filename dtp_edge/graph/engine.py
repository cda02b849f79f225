"""Run the rules over a graph, from its inputs to its outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from dtp_edge.graph import rules as _rules  # noqa: F401  (registers the rules)
from dtp_edge.graph.lift import own_tensors
from dtp_edge.graph.registry import apply_rule
from dtp_edge.graph.values import UNSET, Context, Value


def label_graph(graph_module: fx.GraphModule) -> Context:
    """Return the labels of every tensor of the graph, the equations solved."""
    ctx = Context(graph_module=graph_module)
    own = own_tensors(graph_module)
    tensors: dict[int, Value] = {}  # one value a tensor object, so that tied parameters share labels
    for node in graph_module.graph.nodes:
        ctx.node = node
        if node.op == "placeholder":
            ctx.values[node] = output_value(node.meta.get("val"))
        elif node.op == "get_attr":
            target = str(node.target)
            tensor = own[target] if target in own else fetch(graph_module, target)
            if isinstance(tensor, torch.Tensor):
                if id(tensor) not in tensors:
                    unset: list[Any] = [UNSET] * tensor.dim()
                    tensors[id(tensor)] = Value(tuple(tensor.shape), unset, source=target)
                ctx.values[node] = tensors[id(tensor)]
        elif node.op == "call_function":
            output = output_value(node.meta.get("val"))
            if output is not None:
                ctx.values[node] = output
                apply_rule(ctx, node, output)
        elif node.op == "output":
            for source in node.all_input_nodes:
                ctx.freeze_value(ctx.values.get(source), "network output")
        else:
            for source in node.all_input_nodes:
                ctx.freeze_value(ctx.values.get(source), f"call of {node.target}")
    return ctx


def fetch(graph_module: fx.GraphModule, target: str) -> Any:
    """Return what a `get_attr` target names."""
    found: Any = graph_module
    for part in target.split("."):
        found = getattr(found, part)
    return found


def output_value(val: Any) -> Any:
    """Return an unlabelled Value for a tensor, a list for several, None for what is no tensor."""
    if isinstance(val, torch.Tensor):
        sizes = val.shape
        shape = tuple(concrete(s) for s in sizes)
        return Value(shape, [None] * len(shape), fixed=tuple(not isinstance(s, int) for s in sizes))
    if isinstance(val, (list, tuple)):
        return [output_value(v) for v in val]
    return None


def concrete(size: Any) -> int:
    """Return a size at the traced batch."""
    return size if isinstance(size, int) else int(size.node.hint)
