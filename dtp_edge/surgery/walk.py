"""Walk a graph of operators with several batches side by side, and look at every node as it runs.

A graph that is traced for one shape runs with no other, and one pass over everything does not fit into memory
where only what a layer reads at the moment has to be there: so each node runs for every batch before the next
node does, and values go as soon as their last reader has run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from dtp_edge.ops.nodes import lookup

__all__ = ["Stop", "Walk"]


@dataclass(frozen=True)
class Stop:
    """What the node of this name made of every batch, where nothing else that ran before is read later.

    A value is a tensor, several (of a split), or a size.
    """

    node: str
    values: list[Any]

    def copied(self) -> Stop:
        """Return one whose tensors nobody else writes to."""
        return Stop(self.node, pytree.tree_map_only(Tensor, torch.clone, self.values))

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaf in pytree.tree_leaves(self.values) if isinstance(leaf, Tensor))


class Walk:
    """`tensors` replace those of the module, by name. Subclasses look in `before` and `after`."""

    def __init__(self, module: fx.GraphModule, tensors: Mapping[str, Tensor] | None = None) -> None:
        self.module, self.graph = module, module.graph
        self.tensors = {} if tensors is None else tensors
        self.values: dict[fx.Node, list[Any]] = {}
        last = {source: node for node in self.graph.nodes for source in node.all_input_nodes}
        self._last: dict[fx.Node, list[fx.Node]] = {}
        for source, node in last.items():
            self._last.setdefault(node, []).append(source)

    def before(self, node: fx.Node) -> None:
        """Called when all that `node` reads is there."""

    def after(self, node: fx.Node) -> None:
        """Called when `node` has run."""

    def arguments(self, node: fx.Node, batch: int) -> tuple[Any, ...]:
        """What `node` is called with, for one batch."""
        return fx.map_arg(node.args, lambda source: self.values[source][batch])

    def run(self, batches: Sequence[tuple[Any, ...]], begin: Stop | None = None) -> list[Any]:
        """Return the outputs for each of `batches`, tuples of the network's arguments; what lies before
        `begin` is taken as done."""
        flat = [iter(self.graph.process_inputs(*inputs)) for inputs in batches]
        for node in self.graph.nodes:
            if node.op == "output":
                found = [self.arguments(node, i)[0] for i in range(len(batches))]
                self.values.clear()
                return [self.graph.process_outputs(out) for out in found]
            if node.op == "placeholder":
                self.values[node] = [next(inputs, *node.args) for inputs in flat]
            elif node.op == "get_attr":
                self.values[node] = [self._tensor(str(node.target))] * len(batches)
            elif begin is None:
                self.before(node)
                self.values[node] = [self._call(node, i) for i in range(len(batches))]
            elif node.name == begin.node:
                self.values[node] = begin.copied().values
            if begin is None:
                self.after(node)
            elif node.name == begin.node:
                begin = None
            for source in self._last.get(node, ()):
                self.values.pop(source, None)
        return []

    def _tensor(self, name: str) -> Any:
        own = lookup(self.module, name)
        other = self.tensors.get(name)
        return own if other is None else other.to(own.device)

    def _call(self, node: fx.Node, batch: int) -> Any:
        named = fx.map_arg(node.kwargs, lambda source: self.values[source][batch])
        return node.target(*self.arguments(node, batch), **named)  # type: ignore[operator]
