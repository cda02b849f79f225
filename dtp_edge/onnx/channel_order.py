"""Channels that are shuffled only to be read by convolutions need not be moved: their readers change instead.

What remains of a channel shuffle after pruning is `Gather(Concat(a, b))`, split again and read by a 1x1
convolution and by the next Concat. An order of channels is nothing that a convolution cares about once the
columns of its weight stand in the same order. So every Gather along dimension 1 becomes the order of its
output, handed on through what works channel by channel (activations, pooling, depthwise weights), joined at
Concat, and ended in the weights of Conv, Gemm and MatMul. A Split then takes the same *set* of channels as
before, which after a shuffle is a few stretches of each of its sources and no Gather at all. Where a reader
cannot take another order, the old one is restored by a Gather.

The sums of a convolution run in another order afterwards; beyond that rounding the network is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

Order = tuple[int, ...]  # the old channel at each new place
Shapes = dict[str, list[int | None]]
Constants = dict[str, TensorProto]
MOST_RUNS = 64  # stretches of a tensor into which a Split is rewritten
_POINTWISE = ("Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Tanh", "Identity")
_BY_CHANNEL = frozenset((*_POINTWISE, "MaxPool", "AveragePool", "GlobalAveragePool"))


def absorb_orders(
    nodes: Sequence[NodeProto], shapes: Shapes, constants: Constants, outputs: set[str]
) -> list[NodeProto]:
    """Return the nodes with their Gathers of channels absorbed, or as they were where that saves nothing.

    New constants are added to `constants`. The nodes given are not changed.
    """
    before = sum(_stretches(node, constants) for node in nodes)
    if not before:
        return list(nodes)
    work = _Absorber(shapes, dict(constants))
    for node in nodes:
        work.take(node)
    moved = any(name in work.order or name in work.actual for name in outputs)
    if moved or work.stretches + sum(_stretches(n, work.constants) for n in work.nodes) >= before:
        return list(nodes)
    constants.update(work.constants)
    return work.nodes


def runs(order: Sequence[int]) -> list[tuple[int, int]]:
    """Return `(start, stop)` of the stretches of consecutive numbers."""
    found: list[tuple[int, int]] = []
    for i in order:
        if found and found[-1][1] == i:
            found[-1] = (found[-1][0], i + 1)
        else:
            found.append((i, i + 1))
    return found


class _Absorber:
    """Takes nodes in their order. `order` of a tensor: new[:, j] = old[:, order[j]]; absent: as it was.
    `actual` is the tensor that stands for one that is no longer made."""

    def __init__(self, shapes: Shapes, constants: Constants) -> None:
        self.shapes, self.constants = shapes, constants
        self.order: dict[str, Order] = {}
        self.actual: dict[str, str] = {}
        self.restored: dict[str, str] = {}
        self.nodes: list[NodeProto] = []
        self.stretches = 0  # that splits were cut into

    def take(self, node: NodeProto) -> None:
        ordered = [name for name in node.input if name in self.order]
        if not ((ordered or _is_choice(node, self.constants)) and self._absorbed(node)):
            self._emit(node, [self._as_it_was(name) for name in node.input])

    def _absorbed(self, node: NodeProto) -> bool:
        """Emit the node in the new order and return True, or do nothing and return False."""
        kind = node.op_type
        if kind == "Gather":
            return self._gather(node)
        if kind == "Split":
            return self._split(node)
        if kind == "Concat":
            return self._concat(node)
        if any(name in self.order for name in node.input[1:]):
            return kind in ("Add", "Mul") and self._binary(node)
        if kind in _BY_CHANNEL or (kind == "Flatten" and self._is_point(node.input[0])):
            return self._pass(node, self.order[node.input[0]])
        if kind == "Conv":
            return self._conv(node)
        if kind in ("Gemm", "MatMul"):
            return self._matrix(node)
        return kind in ("Add", "Mul") and self._binary(node)

    def _gather(self, node: NodeProto) -> bool:
        """The chosen channels in the order in which they stand; all of them: nothing is left to do."""
        source, total = node.input[0], self._channels(node.input[0])
        if not _is_choice(node, self.constants) or total is None:
            return False
        place = np.argsort(self.order.get(source, tuple(range(total))))
        chosen = place[_index(node, self.constants) % total]
        order = np.argsort(chosen, kind="stable")
        chosen = chosen[order]
        if order.tolist() != list(range(len(order))):
            self.order[node.output[0]] = tuple(order.tolist())
        if chosen.tolist() == list(range(total)):
            self.actual[node.output[0]] = self.actual.get(source, source)
            return True
        index = self._constant(f"{node.output[0]}_places", chosen.astype(np.int64))
        self._emit(node, [self.actual.get(source, source), index])
        return True

    def _split(self, node: NodeProto) -> bool:
        """Each part is the same set of channels as before, in the order in which they stand now."""
        sizes = self._sizes(node)
        if sizes is None:
            return False
        order = np.array(self.order[node.input[0]])
        edges = [0, *itertools.accumulate(sizes)]
        places = [np.flatnonzero((order >= a) & (order < b)) for a, b in itertools.pairwise(edges)]
        stretches = [runs(p.tolist()) for p in places]
        if sum(map(len, stretches)) > MOST_RUNS:
            return False
        for name, where, start in zip(node.output, places, edges, strict=False):
            if any(order[where] - start != np.arange(len(where))):
                self.order[name] = tuple((order[where] - start).tolist())
        source = self.actual.get(node.input[0], node.input[0])
        if [edge for parts in stretches for edge in parts] == list(itertools.pairwise(edges)):
            self._emit(node, [source, node.input[1]])
        else:
            self._cut(source, dict(zip(node.output, stretches, strict=True)), node.name)
        return True

    def _cut(self, source: str, parts: dict[str, list[tuple[int, int]]], name: str) -> None:
        """Split a tensor into stretches and join those of each part."""
        cuts = sorted(run for found in parts.values() for run in found)
        self.stretches += len(cuts)
        pieces = {run: f"{source}_{name}_{run[0]}" for run in cuts}
        pieces |= {found[0]: target for target, found in parts.items() if len(found) == 1}
        sizes = self._constant(f"{source}_{name}_sizes", np.array([b - a for a, b in cuts], dtype=np.int64))
        self.nodes.append(
            helper.make_node("Split", [source, sizes], [pieces[c] for c in cuts], name=name, axis=1)
        )
        for target, found in parts.items():
            if len(found) > 1:
                joined = [pieces[run] for run in found]
                self.nodes.append(
                    helper.make_node("Concat", joined, [target], name=f"{name}_{target}", axis=1)
                )

    def _concat(self, node: NodeProto) -> bool:
        counts = [self._channels(name) for name in node.input]
        rank = len(self.shapes.get(node.input[0]) or ())
        if not rank or _attribute(node, "axis", 0) % rank != 1 or None in counts:
            return False
        order: list[int] = []
        for name, count in zip(node.input, counts, strict=True):
            assert count is not None
            order += [len(order) + i for i in self.order.get(name, tuple(range(count)))]
        return self._pass(node, tuple(order))

    def _binary(self, node: NodeProto) -> bool:
        """Both operands in one order, or one of them a constant that is the same for all channels."""
        orders = {self.order.get(name) for name in node.input if not self._is_scalar(name)}
        same = len({tuple(self.shapes.get(n) or (None,)) for n in node.input if not self._is_scalar(n)}) == 1
        (order, *rest) = orders
        return not rest and same and order is not None and self._pass(node, order)

    def _conv(self, node: NodeProto) -> bool:
        order, weight = self.order[node.input[0]], self._array(node.input[1])
        groups = _attribute(node, "group", 1)
        if weight is None:
            return False
        source = self.actual.get(node.input[0], node.input[0])
        if groups == 1:
            self._emit(node, [source, self._reordered(node, 1, weight[:, order]), *node.input[2:]])
            return True
        biases = [self._array(name) for name in node.input[2:]]
        if groups != len(order) or weight.shape[0] != groups or any(b is None for b in biases):
            return False
        extra = [
            self._reordered(node, i, b[list(order)]) for i, b in enumerate(biases, start=2) if b is not None
        ]
        self.order[node.output[0]] = order
        self._emit(node, [source, self._reordered(node, 1, weight[list(order)]), *extra])
        return True

    def _matrix(self, node: NodeProto) -> bool:
        order, weight = self.order[node.input[0]], self._array(node.input[1])
        if weight is None or weight.ndim != 2 or len(self.shapes.get(node.input[0]) or ()) != 2:
            return False
        if _attribute(node, "transA", 0):
            return False
        across = bool(_attribute(node, "transB", 0))
        value = weight[:, order] if across else weight[list(order)]
        source = self.actual.get(node.input[0], node.input[0])
        self._emit(node, [source, self._reordered(node, 1, value), *node.input[2:]])
        return True

    def _pass(self, node: NodeProto, order: Order) -> bool:
        if order != tuple(range(len(order))):
            self.order[node.output[0]] = order
        self._emit(node, [self.actual.get(name, name) for name in node.input])
        return True

    def _emit(self, node: NodeProto, inputs: Sequence[str]) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(inputs)
        self.nodes.append(copy)

    def _as_it_was(self, name: str) -> str:
        """Return a tensor with the channels in their old order, made by a Gather where there is none."""
        if name not in self.order:
            return self.actual.get(name, name)
        if name not in self.restored:
            index = self._constant(f"{name}_order", np.argsort(self.order[name]).astype(np.int64))
            target = f"{name}_as_it_was"
            source = self.actual.get(name, name)
            self.nodes.append(helper.make_node("Gather", [source, index], [target], name=target, axis=1))
            self.restored[name] = target
        return self.restored[name]

    def _reordered(self, node: NodeProto, place: int, value: np.ndarray) -> str:
        return self._constant(f"{node.input[place]}_for_{node.output[0]}", value)

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _array(self, name: str) -> np.ndarray | None:
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def _channels(self, name: str) -> int | None:
        shape = self.shapes.get(name)
        return shape[1] if shape is not None and len(shape) > 1 else None

    def _is_point(self, name: str) -> bool:
        shape = self.shapes.get(name)
        return shape is not None and all(size == 1 for size in shape[2:])

    def _is_scalar(self, name: str) -> bool:
        return name in self.constants and int(np.prod(self.constants[name].dims)) == 1

    def _sizes(self, node: NodeProto) -> list[int] | None:
        rank = len(self.shapes.get(node.input[0]) or ())
        if not rank or _attribute(node, "axis", 0) % rank != 1 or len(node.input) < 2:
            return None
        sizes = self._array(node.input[1])
        return None if sizes is None else [int(s) for s in sizes]


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def _is_choice(node: NodeProto, constants: Constants) -> bool:
    """Return whether a node gathers given channels (dimension 1)."""
    if node.op_type != "Gather" or _attribute(node, "axis", 0) != 1 or node.input[1] not in constants:
        return False
    return len(constants[node.input[1]].dims) == 1


def _index(node: NodeProto, constants: Constants) -> np.ndarray:
    return numpy_helper.to_array(constants[node.input[1]]).astype(np.int64)


def _stretches(node: NodeProto, constants: Constants) -> int:
    """Return how many stretches of channels a Gather moves; 0 for another node."""
    return len(runs(_index(node, constants).tolist())) if _is_choice(node, constants) else 0
