"""Orders of channels, followed through a graph: which node hands one on, which ends it in its weights.

An order of a tensor: new[:, j] = old[:, order[j]]. See `passes.absorb_orders` for what it is for. Nothing is
changed until `write`: what the nodes become is a plan.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dtp_edge.onnx import rewriting
from dtp_edge.onnx.rewriting import array, float_shape

Order = tuple[int, ...]  # the old channel at each new place
MOST_RUNS = 64  # stretches of a tensor into which a Split is rewritten
_POINTWISE = ("Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Tanh", "Identity")
_BY_CHANNEL = frozenset((*_POINTWISE, "MaxPool", "AveragePool", "GlobalAveragePool"))


def runs(order: Sequence[int]) -> list[tuple[int, int]]:
    """Return `(start, stop)` of the stretches of consecutive numbers."""
    found: list[tuple[int, int]] = []
    for i in order:
        if found and found[-1][1] == i:
            found[-1] = (found[-1][0], i + 1)
        else:
            found.append((i, i + 1))
    return found


def stretches(node: ir.Node) -> int:
    """Return how many stretches of channels a Gather moves; 0 for another node."""
    index = _choice(node.op_type, node.inputs, node.attributes.get_int("axis", 0))
    return 0 if index is None else len(runs(index.tolist()))


class Step(NamedTuple):
    """What stands in a node's place: the node itself with other inputs (`kept`), or a new one before it."""

    place: ir.Node
    op_type: str
    inputs: list[ir.Value | None]
    outputs: list[ir.Value]
    name: str
    axis: int
    kept: bool


class Absorber:
    """Takes the nodes of a graph in their order and plans what becomes of them."""

    def __init__(self, graph: ir.Graph, make: rewriting.Maker) -> None:
        self.graph, self.make = graph, make
        self.order: dict[ir.Value | None, Order] = {}
        self.actual: dict[
            ir.Value | None, ir.Value | None
        ] = {}  # what stands for a tensor that is not made now
        self.restored: dict[ir.Value | None, ir.Value] = {}
        self.steps: list[Step] = []
        self.constants: list[ir.Value] = []
        self.dropped: list[ir.Node] = []
        self.copies: dict[ir.Value | None, ir.Value] = {}  # of tensors that another node makes now
        self.cuts = 0  # stretches that splits were cut into

    def take(self, node: ir.Node) -> None:
        """Plan one node; those before it have been taken."""
        concerned = not node.domain and (any(v in self.order for v in node.inputs) or stretches(node))
        if not (concerned and self._absorbed(node)):
            self._keep(node, [self._as_it_was(value, node) for value in node.inputs])

    def moves_what_is_seen(self) -> bool:
        """Return whether an output of the network, or a tensor that a subgraph reads, is in another order."""
        moved = [v for v in (*self.order, *self.actual) if v is not None]
        return any(
            v.is_graph_output() or any(n.graph is not self.graph for n in v.consumers()) for v in moved
        )

    def cost(self) -> int:
        """Return how many stretches of channels the plan moves."""
        left = (_choice(s.op_type, s.inputs, s.axis) for s in self.steps)
        return self.cuts + sum(len(runs(index.tolist())) for index in left if index is not None)

    def write(self) -> None:
        """Make the graph what the plan says."""
        for value in self.constants:
            self.graph.register_initializer(value)
        for step in self.steps:
            inputs = [self.copies.get(value, value) for value in step.inputs]
            if step.kept:
                for i, value in enumerate(inputs):
                    step.place.replace_input_with(i, value)
            else:
                new = rewriting.node(step.op_type, inputs, step.outputs, step.name, axis=step.axis)
                self.graph.insert_before(step.place, new)
        for old, new in self.copies.items():
            if old is not None:
                old.replace_all_uses_with(new, replace_graph_outputs=True)
        self.graph.remove(self.dropped, safe=True)

    def _absorbed(self, node: ir.Node) -> bool:
        """Plan the node in the new order and return True, or do nothing and return False."""
        kind, first = node.op_type, node.inputs[0]
        rules = {"Gather": self._gather, "Split": self._split, "Concat": self._concat}
        if kind in rules:
            return rules[kind](node)
        if any(value in self.order for value in node.inputs[1:]):
            return kind in ("Add", "Mul") and self._binary(node)
        if kind in _BY_CHANNEL or (kind == "Flatten" and _is_point(first)):
            return self._pass(node, self.order[first])
        rules = {"Conv": self._conv, "Gemm": self._matrix, "MatMul": self._matrix}
        rules |= {"Add": self._binary, "Mul": self._binary}
        return kind in rules and rules[kind](node)

    def _gather(self, node: ir.Node) -> bool:
        """The chosen channels in the order in which they stand; all of them: nothing is left to do."""
        source, target = node.inputs[0], node.outputs[0]
        index, total = _choice("Gather", node.inputs, node.attributes.get_int("axis", 0)), _channels(source)
        if index is None or total is None:
            return False
        place = np.argsort(self.order.get(source, tuple(range(total))))
        chosen = place[index % total]
        order = np.argsort(chosen, kind="stable")
        chosen = chosen[order]
        if order.tolist() != list(range(len(order))):
            self.order[target] = tuple(order.tolist())
        if chosen.tolist() == list(range(total)):
            self.actual[target] = self.actual.get(source, source)
            self.dropped.append(node)
            return True
        places = self._constant(f"{target.name}_places", chosen.astype(np.int64))
        self._keep(node, [self.actual.get(source, source), places])
        return True

    def _split(self, node: ir.Node) -> bool:
        """Each part is the same set of channels as before, in the order in which they stand now."""
        source, rank = node.inputs[0], len(float_shape(node.inputs[0]) or ())
        sizes = rewriting.ints(node.inputs[1]) if len(node.inputs) > 1 else None
        if not rank or node.attributes.get_int("axis", 0) % rank != 1 or sizes is None:
            return False
        order = np.array(self.order[source])
        edges = [0, *itertools.accumulate(sizes)]
        places = [np.flatnonzero((order >= a) & (order < b)) for a, b in itertools.pairwise(edges)]
        parts = [runs(p.tolist()) for p in places]
        if sum(map(len, parts)) > MOST_RUNS:
            return False
        for value, where, start in zip(node.outputs, places, edges, strict=False):
            if any(order[where] - start != np.arange(len(where))):
                self.order[value] = tuple((order[where] - start).tolist())
        actual = self.actual.get(source, source)
        if [edge for part in parts for edge in part] == list(itertools.pairwise(edges)):
            self._keep(node, [actual, node.inputs[1]])
        else:
            self._cut(node, actual, dict(zip(node.outputs, parts, strict=True)))
        return True

    def _cut(
        self, node: ir.Node, source: ir.Value | None, parts: dict[ir.Value, list[tuple[int, int]]]
    ) -> None:
        """Split a tensor into stretches and join those of each part."""
        cuts = sorted(run for found in parts.values() for run in found)
        self.cuts += len(cuts)
        name, stem = node.name or "", f"{source.name if source is not None else ''}_{node.name or ''}"
        for target in parts:
            self.copies[target] = ir.Value(name=target.name, type=target.type, shape=target.shape)
        pieces = {found[0]: self.copies[target] for target, found in parts.items() if len(found) == 1}
        pieces = {run: pieces.get(run) or self.make.value(f"{stem}_{run[0]}") for run in cuts}
        sizes = self._constant(f"{stem}_sizes", np.array([b - a for a, b in cuts], dtype=np.int64))
        self.steps.append(Step(node, "Split", [source, sizes], [pieces[c] for c in cuts], name, 1, False))
        for target, found in parts.items():
            if len(found) > 1:
                joined: list[ir.Value | None] = [pieces[run] for run in found]
                whole = [self.copies[target]]
                self.steps.append(Step(node, "Concat", joined, whole, f"{name}_{target.name}", 1, False))
        self.dropped.append(node)

    def _concat(self, node: ir.Node) -> bool:
        rank = len(float_shape(node.inputs[0]) or ())
        if not rank or node.attributes.get_int("axis", 0) % rank != 1:
            return False
        order: list[int] = []
        for value in node.inputs:
            count = _channels(value)
            if count is None:
                return False
            order += [len(order) + i for i in self.order.get(value, tuple(range(count)))]
        return self._pass(node, tuple(order))

    def _binary(self, node: ir.Node) -> bool:
        """Both operands in one order, or one of them a constant that is the same for all channels."""
        wide = [value for value in node.inputs if not _is_scalar(value)]
        order, *rest = {self.order.get(value) for value in wide}
        same = len({tuple(float_shape(value) or (None,)) for value in wide}) == 1
        return not rest and same and order is not None and self._pass(node, order)

    def _conv(self, node: ir.Node) -> bool:
        source, groups = node.inputs[0], node.attributes.get_int("group", 1)
        order, weight = list(self.order[source]), array(node.inputs[1])
        if weight is None:
            return False
        actual = self.actual.get(source, source)
        if groups == 1:
            self._keep(node, [actual, self._reordered(node, 1, weight[:, order]), *node.inputs[2:]])
            return True
        biases = [b for value in node.inputs[2:] if (b := array(value)) is not None]
        if groups != len(order) or weight.shape[0] != groups or len(biases) != len(node.inputs[2:]):
            return False
        extra = [self._reordered(node, i, b[order]) for i, b in enumerate(biases, start=2)]
        self.order[node.outputs[0]] = tuple(order)
        self._keep(node, [actual, self._reordered(node, 1, weight[order]), *extra])
        return True

    def _matrix(self, node: ir.Node) -> bool:
        source, weight = node.inputs[0], array(node.inputs[1])
        if weight is None or weight.ndim != 2 or len(float_shape(source) or ()) != 2:
            return False
        if node.attributes.get_int("transA", 0):
            return False
        order = list(self.order[source])
        value = weight[:, order] if node.attributes.get_int("transB", 0) else weight[order]
        actual = self.actual.get(source, source)
        self._keep(node, [actual, self._reordered(node, 1, value), *node.inputs[2:]])
        return True

    def _pass(self, node: ir.Node, order: Order) -> bool:
        if order != tuple(range(len(order))):
            self.order[node.outputs[0]] = order
        self._keep(node, [self.actual.get(value, value) for value in node.inputs])
        return True

    def _keep(self, node: ir.Node, inputs: list[ir.Value | None]) -> None:
        axis = node.attributes.get_int("axis", 0)
        self.steps.append(Step(node, node.op_type, inputs, list(node.outputs), node.name or "", axis, True))

    def _as_it_was(self, value: ir.Value | None, reader: ir.Node) -> ir.Value | None:
        """Return a tensor with the channels in their old order, made by a Gather where there is none."""
        actual = self.actual.get(value, value)
        if value is None or value not in self.order:
            return actual
        if value not in self.restored:
            index = self._constant(f"{value.name}_order", np.argsort(self.order[value]).astype(np.int64))
            target = self.make.value(f"{value.name}_as_it_was")
            self.steps.append(Step(reader, "Gather", [actual, index], [target], str(target.name), 1, False))
            self.restored[value] = target
        return self.restored[value]

    def _reordered(self, node: ir.Node, place: int, new: np.ndarray) -> ir.Value:
        old = node.inputs[place]
        return self._constant(f"{old.name if old is not None else ''}_for_{node.outputs[0].name}", new)

    def _constant(self, name: str, new: np.ndarray) -> ir.Value:
        self.constants.append(rewriting.stored(self.make.value(name), new))
        return self.constants[-1]


def _choice(op_type: str, inputs: Sequence[ir.Value | None], axis: int) -> np.ndarray | None:
    """Return the channels (dimension 1) that a Gather of given ones takes, None for another node."""
    index = array(inputs[1]) if op_type == "Gather" and axis == 1 else None
    return None if index is None or index.ndim != 1 else index.astype(np.int64)


def _channels(value: ir.Value | None) -> int | None:
    shape = float_shape(value)
    return shape[1] if shape is not None and len(shape) > 1 else None


def _is_point(value: ir.Value | None) -> bool:
    shape = float_shape(value)
    return shape is not None and all(size == 1 for size in shape[2:])


def _is_scalar(value: ir.Value | None) -> bool:
    found = array(value)
    return found is not None and found.size == 1
