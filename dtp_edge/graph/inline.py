"""Open the boxes that torch.export puts around `torch.no_grad()` and disabled autocast regions.

Such a region is one call of a sub-graph. In eval mode it computes what its operators compute, so they are
written into the outer graph. A region with autocast *on* changes precision and stays closed.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

# operator -> position of the sub-graph among its arguments; the operands follow
_WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
_AUTOCAST_ENABLED = 2


def inline_regions(graph_module: fx.GraphModule) -> None:
    """Write the operators of every such region into the graph, in place; regions in regions too."""
    regions = [n for n in graph_module.graph.nodes if _is_open_region(n)]
    if not regions:
        return
    while regions:
        for node in regions:
            _inline(graph_module, node)
        regions = [n for n in graph_module.graph.nodes if _is_open_region(n)]
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()


def _is_open_region(node: fx.Node) -> bool:
    if node.op != "call_function" or isinstance(node.target, torch._ops.OpOverload):
        return False
    name = getattr(node.target, "__name__", str(node.target))
    if name not in _WRAPPERS:
        return False
    return name != "wrap_with_autocast" or node.args[_AUTOCAST_ENABLED] is False


def _inline(graph_module: fx.GraphModule, node: fx.Node) -> None:
    position = _WRAPPERS[getattr(node.target, "__name__", str(node.target))]
    box: Any = node.args[position]
    inner: Any = graph_module.get_submodule(str(box.target))
    operands = iter(node.args[position + 1 :])
    known: dict[fx.Node, Any] = {}
    outputs: Any = ()
    with graph_module.graph.inserting_before(node):
        for part in inner.graph.nodes:
            if part.op == "placeholder":
                known[part] = next(operands)
            elif part.op == "output":
                outputs = fx.map_arg(part.args[0], known.__getitem__)
            else:
                known[part] = graph_module.graph.node_copy(part, known.__getitem__)
                if part.op == "get_attr":
                    known[part].target = f"{box.target}.{part.target}"
    for user in list(node.users):
        if user.target is operator.getitem:
            user.replace_all_uses_with(outputs[user.args[1]])
            graph_module.graph.erase_node(user)
    if node.users:
        node.replace_all_uses_with(outputs)
    graph_module.graph.erase_node(node)
    if not box.users:
        graph_module.graph.erase_node(box)
