"""Closed branches in the user's own module: a block that returns its input becomes `nn.Identity`.

A module of which nothing is left in the graph, the addition included, is an identity. Where its forward does
more, the last module of the branch gives 0 instead, which is added to what stays, and the others of the
branch pass on what they get. Whether Python code goes along with it is not asked here: the
result counts only after it has run and agreed with the graph (`inplace`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from dtp_edge.graph.branches import Branch
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.ops.nodes import owner


class Skipped(nn.Module):
    """Stands where a branch ended: whatever it is given, it adds nothing.

    In evaluation that is the number 0, which exporters drop; in training zeros of the shape that came in,
    because stochastic depth asks what it is given for its batch.
    """

    def forward(self, *inputs: Any, **options: Any) -> torch.Tensor | int:
        given = next((x for x in inputs if isinstance(x, torch.Tensor)), None)
        return torch.zeros_like(given) if self.training and given is not None else 0


def drop_modules(module: nn.Module, network: PrunableNetwork, keep: np.ndarray) -> str | None:
    """Replace what closed branches ran in `module`, in place; return why not, None if it was done."""
    closed = set(network.depth.closed(keep))
    if not closed:
        return None
    gone = network.depth.gone(keep)
    held = _nodes_by_module(network.graph_module.graph)
    nodes = {n.name: n for n in network.graph_module.graph.nodes}
    for index in sorted(closed):
        branch = network.branches[index]
        if branch.parent in closed:
            continue
        adder = owner(nodes[branch.addition])
        if adder and held[adder] <= gone:
            _replace(module, adder, nn.Identity())
            continue
        parts = _parts(branch, nodes, held)
        if not parts:
            return f"no module of yours is the branch {branch.name} and nothing else"
        for name in parts[:-1]:
            _replace(module, name, nn.Identity())
        _replace(module, parts[-1], Skipped())
    return None


def _nodes_by_module(graph: fx.Graph) -> dict[str, set[str]]:
    """Return the names of the nodes that ran in each module or in one of its parts."""
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        if node.op == "call_function":
            for name in _around(owner(node)):
                found.setdefault(name, set()).add(node.name)
    return found


def _around(path: str) -> list[str]:
    """Return a module's name and those of all that it lies in, the outermost first."""
    parts = path.split(".") if path else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _parts(branch: Branch, nodes: Mapping[str, fx.Node], held: Mapping[str, set[str]]) -> Sequence[str]:
    """Return the largest modules that run for the branch alone, in the order in which they end."""
    inside, found = set(branch.nodes), dict[str, None]()
    for name in branch.nodes:
        if nodes[name].op != "call_function":
            continue
        whole = next((m for m in _around(owner(nodes[name])) if held[m] <= inside), None)
        if whole is not None:
            found.pop(whole, None)
            found[whole] = None
    return list(found)


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, part)
