"""Where a network can be compared with a cut copy of itself: the outputs of its blocks.

A block's output is what an addition of two activations leaves, behind the activations that only it feeds: the
residual stream after the block. A network without such additions has stages instead, whose outputs are the
last tensors of every resolution. Each is a node of the traced graph and, where there is one, the module whose
output it is, so that the user's own forward can be listened to. The labels say which channels of it a cut
network still has.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.ops.nodes import op_name
from dtp_edge.ops.spec import spec_of

__all__ = ["BlockOutput", "block_outputs"]


@dataclass(frozen=True)
class BlockOutput:
    """`node` of the graph, `module` whose one output it is ("" where no module called once has it)."""

    node: str
    module: str


def block_outputs(network: PrunableNetwork) -> tuple[BlockOutput, ...]:
    """Return the outputs of the network's blocks in the order they are computed, else those of its stages."""
    graph = network.graph_module.graph
    moving = _depends_on_input(graph)
    chains = [_with_activations(n) for n in graph.nodes if _joins(n, moving)]
    if not chains:
        chains = [[n] for n in graph.nodes if n in moving and _ends_stage(n)]
    modules = _modules_by_output(graph)
    found: dict[str, BlockOutput] = {}
    for chain in chains:
        named = [n for n in chain if n.name in modules]
        node = named[-1] if named else chain[-1]
        found[node.name] = BlockOutput(node.name, modules.get(node.name, ""))
    return tuple(found.values())


def _depends_on_input(graph: fx.Graph) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found


def _shape(node: Any) -> tuple[Any, ...] | None:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _joins(node: fx.Node, moving: set[fx.Node]) -> bool:
    """Whether a node adds two activations of one shape."""
    if node.op != "call_function" or op_name(node).removesuffix("_") != "add" or len(node.args) < 2:
        return False
    a, b = node.args[:2]
    shape = _shape(node)
    return (
        a in moving and b in moving and a is not b and shape is not None and _shape(a) == _shape(b) == shape
    )


def _with_activations(node: fx.Node) -> list[fx.Node]:
    """The node and the activations behind it that nothing else is computed beside."""
    chain = [node]
    while len(chain[-1].users) == 1:
        (user,) = chain[-1].users
        spec = spec_of(op_name(user)) if user.op == "call_function" else None
        if spec is None or spec.fuses != "activation" or _shape(user) != _shape(node):
            break
        chain.append(user)
    return chain


def _ends_stage(node: fx.Node) -> bool:
    """Whether images or signals leave their resolution behind a node."""
    shape = _shape(node)
    if node.op != "call_function" or shape is None or len(shape) < 3:
        return False
    spec = spec_of(op_name(node))
    if spec is not None and spec.training_flag is not None and spec.fuses != "norm":
        return False  # a dropout: noise where the network trains
    users = [u for u in node.users if u.op == "call_function" and op_name(u) != "linear"]
    after = [s for s in map(_shape, users) if s is not None]
    return any(len(s) != len(shape) or s[2:] != shape[2:] for s in after)


def _modules_by_output(graph: fx.Graph) -> dict[str, str]:
    """Node name -> the innermost module, called once, of which it is the one value that is read outside."""
    inside: dict[str, str] = {}  # a call of a module -> its path
    outputs: dict[str, set[fx.Node]] = {}
    calls = {n: _calls(n) for n in graph.nodes}
    for node, stack in calls.items():
        inside.update(stack)
        for call in stack:
            if any(call not in calls[user] for user in node.users):
                outputs.setdefault(call, set()).add(node)
    times = Counter(inside.values())
    found: dict[str, str] = {}
    for call, nodes in outputs.items():
        path = inside[call]
        if path and times[path] == 1 and len(nodes) == 1:
            name = next(iter(nodes)).name
            if len(path) >= len(found.get(name, "")):
                found[name] = path
    return found


def _calls(node: fx.Node) -> dict[str, str]:
    stack = node.meta.get("nn_module_stack") or {}
    return {str(call): str(value[0]) for call, value in stack.items()}
