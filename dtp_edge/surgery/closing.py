"""Take closed branches out of a graph: an addition without its operand is what stays, and dead nodes go."""

from __future__ import annotations

import numpy as np
import torch
from torch import fx

from dtp_edge.errors import CheckError
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.graph.writes import writes, written_later
from dtp_edge.ops.nodes import lookup, op_name

aten = torch.ops.aten


def close_branches(
    network: PrunableNetwork, keep: np.ndarray, graph: fx.Graph, copies: dict[fx.Node, fx.Node]
) -> set[str]:
    """Edit `graph`, the copy of the dense graph, in place; return names of the tensors that nobody reads now.

    Who wrote in place to the sum would now write to what stays, which others may read: such an operator gives
    way to its twin that writes elsewhere, or what stays is copied. `copies` loses the nodes that go.

    Raises `CheckError` for a keep vector that leaves no network (`Depth.fault`).
    """
    fault = network.depth.fault(keep)
    if fault is not None:
        raise CheckError(f"surgery: {fault.text}", where=fault.node, hint="Keep one of these gates open.")
    closed = set(network.depth.closed(keep))
    if not closed:
        return set()
    dense = {node.name: node for node in copies}
    for index in sorted(closed):  # in the graph's order: what stays may be such a sum itself
        branch = network.branches[index]
        if branch.parent in closed:
            continue  # it goes with the branch around it
        last = dense[(branch.addition, *branch.repeats)[-1]]
        stays = copies[dense[branch.addition]].args[1 - branch.operand]
        if written_later(last) and not _writes_elsewhere(copies[last]):
            with graph.inserting_after(copies[dense[branch.addition]]):
                stays = graph.call_function(aten.clone.default, (stays,))
        copies[last].replace_all_uses_with(stays)  # type: ignore[arg-type]
    gone = network.depth.gone(keep)
    for old in reversed(dense.values()):
        idle = not copies[old].users and bool(old.users) and old.op != "placeholder"
        if old.name in gone or (idle and not writes(old)):
            graph.erase_node(copies.pop(old))
    return _unread(network.graph_module, {old.name for old in copies})


def _writes_elsewhere(value: fx.Node) -> bool:
    """Make the only reader of a value, which writes to it, one that does not; return whether it is so."""
    reader = next(iter(value.users))
    if len(value.users) != 1 or not writes(reader) or reader.args[0] is not value:
        return False
    if not isinstance(reader.target, torch._ops.OpOverload):
        return False
    packet = getattr(aten, op_name(reader).rstrip("_"), None)
    overload = getattr(packet, reader.target._overloadname, None)
    if overload is None or _arguments(overload) != _arguments(reader.target):
        return False
    reader.target = overload
    return True


def _arguments(overload: torch._ops.OpOverload) -> list[tuple[str, str]]:
    return [(a.name, str(a.type)) for a in overload._schema.arguments]


def _unread(graph_module: fx.GraphModule, left: set[str]) -> set[str]:
    """Return the names of the tensors that no node of `left` reads any more."""
    reads = [(n, lookup(graph_module, str(n.target))) for n in graph_module.graph.nodes if n.op == "get_attr"]
    still = {id(tensor) for node, tensor in reads if node.name in left}
    return {str(node.target) for node, tensor in reads if id(tensor) not in still}
