"""Find the branches of a traced network: which operands of its additions it can do without.

An operand counts if what serves it alone (`post_dominance`) costs something, if what stays depends on an
input of the network, and if the graph stays right without it; else there is a `Refusal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from dtp_edge.graph.branch_names import branch_names
from dtp_edge.graph.branches import Branch, Depth
from dtp_edge.graph.network import Frozen, Group, TensorLabels
from dtp_edge.graph.post_dominance import PostDominance
from dtp_edge.graph.writes import repeated_activations, written_outside
from dtp_edge.ops.nodes import lookup, op_name, owner
from dtp_edge.ops.refusal import Code, Refusal
from dtp_edge.ops.spec import spec_of

_LIKE_ADDITIONS = ("sub", "rsub", "addcmul", "addcdiv", "lerp")
_NEEDED = "what it adds is read elsewhere too"


@dataclass
class _Found:
    addition: fx.Node
    operand: int
    nodes: list[fx.Node]
    stays: fx.Node


@dataclass
class Finder:
    """What is known of the graph; `labels` by node name, one entry for every tensor that it yields."""

    graph_module: fx.GraphModule
    labels: Mapping[str, list[TensorLabels]]
    groups: Sequence[Group]
    exclude: Sequence[str] = ()

    def find(self) -> Depth:
        """Return the branches, in the order of their additions, and the additions that have none."""
        self._live = _live(self.graph_module.graph)
        self._costing = {n for n in self._live if _costs(n, self._live)}
        additions = [n for n in self._live if self._adds(n)]
        plain = [n for n in additions if op_name(n).rstrip("_") == "add"]
        tree = PostDominance(self.graph_module.graph, plain)
        found: list[_Found] = []
        refused: list[Frozen] = []
        for node in additions:
            one, why = self._operands(tree, node) if node in plain else ([], [_like_addition(node)])
            found += one
            if not one:
                refused.append(Frozen(_place(node), _clearest(why)))
        return Depth(self._branches(found), tuple(refused), frozenset(n.name for n in self._costing))

    def _adds(self, node: fx.Node) -> bool:
        """Whether a node adds two activations of one shape, its own."""
        name = op_name(node).rstrip("_")
        pair = [n for n in node.all_input_nodes if n in self._live][:2]
        if name not in ("add", *_LIKE_ADDITIONS) or len(pair) != 2:
            return False
        if name == "add" and list(node.args[:2]) != pair:
            return False
        values = [n.meta.get("val") for n in (node, *pair)]
        shapes = {str(v.shape) for v in values if isinstance(v, torch.Tensor)}
        return all(isinstance(v, torch.Tensor) for v in values) and len(shapes) == 1

    def _operands(self, tree: PostDominance, node: fx.Node) -> tuple[list[_Found], list[Refusal]]:
        found, why = [], []
        for operand in (0, 1):
            one = _Found(node, operand, tree.serving(node, operand), node.args[1 - operand])  # type: ignore[arg-type]
            refusal = self._refusal(one)
            if refusal is None:
                found.append(one)
            else:
                why.append(refusal)
        return found, why

    def _refusal(self, one: _Found) -> Refusal | None:
        """Return why an operand is no branch, None if it is one."""
        node, inside = one.addition, set(one.nodes)

        def because(code: Code, text: str) -> Refusal:
            return Refusal(code, node.name, text)

        if not one.nodes:
            return because(Code.NEEDED, _NEEDED)
        if self._costing.isdisjoint(inside):
            return because(Code.FREE, "what serves the addition alone costs nothing")
        if any(n.op == "placeholder" for n in one.nodes):
            return because(Code.INPUT, "without it an input of the network would have no reader")
        if one.operand == 0 and node.kwargs.get("alpha", 1) != 1:
            return because(Code.NOT_COVERED, "what would stay is added with a factor of its own (alpha)")
        mine, stays = node.meta["val"], one.stays.meta["val"]
        if mine.dtype != stays.dtype or not _same(
            self.labels.get(node.name), self.labels.get(one.stays.name)
        ):
            return because(
                Code.MEETS_WHOLE, "the sum is of another type or other channels than what would stay"
            )
        if (outside := written_outside(one.nodes)) is not None:
            return because(Code.IN_PLACE, f"{outside.name} within writes to a tensor that is read outside")
        return self._wanted_whole(one.nodes, because)

    def _wanted_whole(self, nodes: list[fx.Node], because: Any) -> Refusal | None:
        places = {owner(n) for n in nodes if n.op == "call_function"}
        places |= {str(n.target) for n in nodes if n.op == "get_attr"}
        for name in self.exclude:
            if any(p == name or p.startswith(f"{name}.") for p in places):
                return because(Code.EXCLUDED, f"excluded by the user ({name})")
        held = [lookup(self.graph_module, str(n.target)) for n in nodes if n.op == "get_attr"]
        weights = [t for t in held if isinstance(t, nn.Parameter)]
        if weights and not any(t.requires_grad for t in weights) and self._any_trains():
            return because(
                Code.EXCLUDED, "its parameters are frozen (requires_grad=False): it must not change"
            )
        return None

    def _any_trains(self) -> bool:
        return any(p.requires_grad for p in self.graph_module.parameters())

    # -- from what was found to branches -----------------------------------------------------------------
    def _branches(self, found: list[_Found]) -> tuple[Branch, ...]:
        sets = [frozenset(one.nodes) for one in found]
        parents = [_smallest_around(one.addition, sets) for one in found]
        names = branch_names([(one.addition, one.nodes) for one in found], self._weight)
        groups = self._groups_within(found)
        first = len(self.groups)
        atom = self.groups[-1].stop if self.groups else 0
        result = []
        for i, one in enumerate(found):
            twin = next((j for j, o in enumerate(found) if o.addition is one.addition and j != i), None)
            nested = [first + j for j, o in enumerate(found) if o.addition in sets[i]]
            result.append(
                Branch(
                    name=names[i],
                    addition=one.addition.name,
                    operand=one.operand,
                    stays=one.stays.name,
                    nodes=tuple(n.name for n in one.nodes),
                    repeats=tuple(n.name for n in repeated_activations(one.addition, one.stays)),
                    parent=parents[i],
                    twin=twin,
                    atom=atom + i,
                    group=first + i,
                    groups=(*groups[i], *nested),
                    parameters=tuple(dict.fromkeys(str(n.target) for n in one.nodes if n.op == "get_attr")),
                )
            )
        return tuple(result)

    def _groups_within(self, found: list[_Found]) -> list[list[int]]:
        """Return, for each branch, the groups that no node outside of it knows of."""
        of_atom = np.append(
            np.repeat(np.arange(len(self.groups)), [g.stop - g.start for g in self.groups]), len(self.groups)
        )
        known: dict[int, np.ndarray] = {}
        readers: list[set[str]] = [set() for _ in range(len(self.groups) + 1)]
        for name, tensors in self.labels.items():
            for rows in (r for labels in tensors for r in labels if r is not None):
                if id(rows) not in known:
                    known[id(rows)] = np.unique(of_atom[rows])
                for index in known[id(rows)]:
                    readers[index].add(name)
        inside = [{n.name for n in one.nodes} for one in found]
        return [[g for g, names in enumerate(readers[:-1]) if names and names <= nodes] for nodes in inside]

    def _weight(self, node: fx.Node) -> int:
        """Return what a node weighs when a branch is named by its heaviest part."""
        tensors = [n for n in node.all_input_nodes if n.op == "get_attr"]
        return sum(int(np.prod(_tensor(self.graph_module, n).shape)) for n in tensors)


def _tensor(graph_module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    value = lookup(graph_module, str(node.target))
    return value if isinstance(value, torch.Tensor) else torch.empty(0)


def _live(graph: fx.Graph) -> dict[fx.Node, None]:
    """Return the nodes that hold what is computed from an input, in order."""
    found: dict[fx.Node, None] = {}
    for node in graph.nodes:
        reads = node.op == "call_function" and any(n in found for n in node.all_input_nodes)
        number = isinstance(node.meta.get("val"), (int, float, bool, torch.SymInt, torch.SymFloat))
        if (reads or node.op == "placeholder") and not number:
            found[node] = None
    return found


def _costs(node: fx.Node, live: Mapping[fx.Node, None]) -> bool:
    if node.op != "call_function" or node not in live or op_name(node) == "getitem":
        return False
    spec = spec_of(op_name(node))
    return spec is None or spec.kernel_of is not None or spec.kernel != "view"


def _same(one: list[TensorLabels] | None, other: list[TensorLabels] | None) -> bool:
    """Whether two single tensors have the same labels."""
    if one is None or other is None:
        return one is other
    pairs = list(zip(one[0], other[0], strict=True))
    return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


def _smallest_around(addition: fx.Node, sets: list[frozenset[fx.Node]]) -> int | None:
    around = [i for i, nodes in enumerate(sets) if addition in nodes]
    return min(around, key=lambda i: len(sets[i]), default=None)


def _place(node: fx.Node) -> str:
    return f"{owner(node)} {node.name}".strip()


def _like_addition(node: fx.Node) -> Refusal:
    text = f"{op_name(node)} is no plain addition: write it as x + f(x) and f can go"
    return Refusal(Code.NOT_COVERED, node.name, text)


def _clearest(why: list[Refusal]) -> Refusal:
    """Return the refusal that says most: of the operand that comes closest to being a branch."""
    plain = (Code.NEEDED, Code.FREE)
    return next(
        (w for w in why if w.code not in plain), next((w for w in why if w.code == Code.FREE), why[0])
    )
