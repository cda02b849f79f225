"""What a node of a traced graph says of itself: its operator, arguments, owner, and the tensor it names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import fx


def lookup(graph_module: Any, target: str) -> Any:
    """Return what a `get_attr` target names."""
    for part in target.split("."):
        graph_module = getattr(graph_module, part)
    return graph_module


def evaluate(node: fx.Node, graph_module: Any, depth: int = 8) -> np.ndarray | None:
    """Return the numbers of a buffer, or of a short chain of operators on buffers; None for anything else."""
    tensor = _evaluate(node, graph_module, depth)
    return None if tensor is None else tensor.detach().cpu().numpy()


def _evaluate(node: fx.Node, graph_module: Any, depth: int) -> torch.Tensor | None:
    if node.op == "get_attr":
        tensor = lookup(graph_module, str(node.target))
        return None if isinstance(tensor, torch.nn.Parameter) else tensor
    if node.op != "call_function" or depth == 0 or not isinstance(node.target, torch._ops.OpOverload):
        return None
    if node.target._schema.name.endswith("_") or not node.all_input_nodes:
        return None
    inputs = {n: _evaluate(n, graph_module, depth - 1) for n in node.all_input_nodes}
    if any(v is None or v.numel() > 1_000_000 for v in inputs.values()):
        return None
    with torch.no_grad():
        found = node.target(*fx.map_arg(node.args, inputs.get), **fx.map_arg(node.kwargs, inputs.get))
    return found if isinstance(found, torch.Tensor) else None


def owner(node: fx.Node) -> str:
    """Return the name of the module that a node was traced in, '' for the root."""
    stack = node.meta.get("nn_module_stack") if node is not None else None
    if not stack:
        return ""
    return str(next(reversed(stack.values()))[0])


def op_name(node: fx.Node) -> str:
    """Return the ATen name without overload, such as `conv2d`."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return _aten_name(target)
    return getattr(target, "__name__", str(target))


@functools.cache
def _aten_name(target: torch._ops.OpOverload) -> str:
    return target._schema.name.partition("::")[2]


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """Return the node's arguments by name, defaults filled in."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {**{str(i): a for i, a in enumerate(node.args)}, **node.kwargs}
    found = dict(_defaults(node.target))
    found.update(zip(found, node.args, strict=False))
    found.update(node.kwargs)
    return found


@functools.cache
def _defaults(target: torch._ops.OpOverload) -> dict[str, Any]:
    """Return the parameters of an operator in order, with their defaults (None where there is none)."""
    return {a.name: a.default_value if a.has_default_value() else None for a in target._schema.arguments}


def rewrite_each(module: Any, names: Collection[str], change: Callable[[Any, fx.Node, int], bool]) -> int:
    """Offer every operator of these names to `change(module, node, number)`, which says whether it rewrote
    it; tidy the graph, and return how many were."""
    count = 0
    for node in list(module.graph.nodes):
        if node.op == "call_function" and op_name(node) in names and change(module, node, count):
            count += 1
    if count:
        module.graph.eliminate_dead_code()
        module.graph.lint()
        module.recompile()
    return count
