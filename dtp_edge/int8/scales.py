"""int8 scales with which every correct runtime computes the same bits.

With scales of any value two correct runtimes differ: one value in 300,000 lies so near the middle between two
steps that the last bit of a float decides which way it is rounded. The next layer turns that one step into
others, and after ten layers the two are as far apart as either is from fp32: trained ResNet-20 differed by
1-2 % of range on every 20th image between ONNX Runtime with and without optimisations.

So every scale is a power of two, times (1 + 2^-12)^level. Products and sums are then multiples of a power
of two of the output's step; the levels are such that the output's own factor differs, by which no multiple
comes nearer than about 2^-13 step to the middle between two steps, and float errors (1e-5 of a step) decide
nothing. Without the levels many results would lie exactly in the middle, where a runtime that multiplies by
a rounded reciprocal decides by chance. What a float operator (a norm, GELU, Softmax) hands to a rounding may
lie anywhere, so one value in some ten thousand still differs behind those.

The price: a step is up to twice as large (1.4 times on average) as the range needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from dtp_edge.onnx.wiring import makers, readers

EPSILON = 2.0**-12
_PASS = {"Relu", "Clip", "LeakyRelu", "MaxPool", "Identity"}  # keep their input's multiples, or nearly
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Mul"}


def share_scales(model: ModelProto, source: ModelProto) -> None:
    """Set the scales of a QDQ model, in place, and round the weights of `source` (the fp32 model) anew."""
    _part_means(model.graph)
    book = _Book(model.graph, source.graph)
    roundings = [
        n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in book.values
    ]
    for node in roundings:
        book.share(node)
    for node in roundings:
        book.members.setdefault(book.head(node.input[1]), []).append(node)
    book.scale_activations()
    book.scale_weights()
    book.scale_biases()
    for initializer in model.graph.initializer:
        if initializer.name in book.changed:
            array = np.asarray(book.changed[initializer.name])
            initializer.CopyFrom(numpy_helper.from_array(array, initializer.name))


@dataclass
class _Book:
    """What is known of a QDQ graph. A group is all tensors that share one scale, by the scale's name."""

    graph: GraphProto
    source: GraphProto
    levels: dict[str, int] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)  # group -> another with which it shares its scale
    members: dict[str, list[NodeProto]] = field(default_factory=dict)
    changed: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = {i.name: numpy_helper.to_array(i) for i in self.graph.initializer}
        self.float_values = {i.name: i for i in self.source.initializer}
        self.producer, self.readers = makers(self.graph), readers(self.graph)

    def share(self, quantize: NodeProto) -> None:
        """Put the operands of a sum on one level, so that their sums are multiples of a power of two."""
        maker = self._maker(quantize.input[0])
        operands = self._computed(maker) if maker is not None and maker.op_type == "Add" else []
        if len(operands) == 2:
            self.shared[self.head(operands[0])] = self.head(operands[1])

    def head(self, group: str) -> str:
        """Return the group that stands for all that share its level."""
        while self.shared.get(group, group) != group:
            group = self.shared[group]
        return group

    def level(self, group: str) -> int:
        """Return the smallest level that differs from those of the values that are rounded to the group."""
        head = self.head(group)
        if head in self.levels:
            return self.levels[head]
        self.levels[head] = 0  # what a loop sees
        taken = {level for node in self.members.get(head, []) for level in self._natural(node)}
        self.levels[head] = next(level for level in range(len(taken) + 1) if level not in taken)
        return self.levels[head]

    def _natural(self, quantize: NodeProto) -> set[int]:
        """Return the levels of the values that are rounded; none where a stored weight sets them apart."""
        maker = self._maker(quantize.input[0])
        computed = self._computed(maker)
        if maker is None or not computed or (maker.op_type in _WEIGHTED and len(computed) == 1):
            return set()
        if maker.op_type in ("Mul", "MatMul"):
            return {sum(map(self.level, computed))}
        return {self.level(g) for g in computed if g != quantize.input[1]}

    def _computed(self, node: NodeProto | None) -> list[str]:
        """Return the groups of a node's operands that are no stored weights."""
        names = node.input if node is not None else []
        return [g for n in names if (g := self._group(n)) is not None and not self._is_stored(n)]

    def scale_activations(self) -> None:
        """Write the scale and zero point of every group of activations."""
        for node in self.graph.node:
            scale = node.input[1] if node.op_type == "QuantizeLinear" else ""
            if not scale or node.input[0] in self.values or scale in self.changed:
                continue
            old, point = float(self.values[scale]), self.values[node.input[2]]
            factor = (1 + EPSILON) ** self.level(scale)
            new = float(np.exp2(_exponent(old / factor))) * factor
            info = np.iinfo(point.dtype)
            place = np.rint(info.min + (float(point) - info.min) * old / new)
            self._write(scale, new)
            self._write(node.input[2], np.clip(place, info.min, info.max))

    def scale_weights(self) -> None:
        """Round every stored weight anew, each channel in the steps that suit it best."""
        for node in self.graph.node:
            if node.op_type != "DequantizeLinear" or node.input[0] not in self.values:
                continue
            stored = self.values[node.input[0]]
            if stored.dtype == np.int32 or node.input[0] in self.changed:
                continue
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            weight, scale = self._float_weight(node, stored, axis), self.values[node.input[1]]
            highest = _exponent(scale) + 1
            choices = [self._step(node, highest - halvings) for halvings in range(3)]
            scales, rounded = _best(weight, choices, self.values[node.input[2]], axis)
            self._write(node.input[1], scales)
            self._write(node.input[0], rounded)

    def _step(self, node: NodeProto, exponent: np.ndarray) -> np.ndarray:
        """Return 2^exponent, times what puts the products apart from the middles between the result's steps.

        Where the result's step is 2^k products, a factor 1 / (1 + 2^-k) keeps all sums half a product away.
        """
        (reader, *_) = self.readers.get(node.output[0], [node])
        others = [self.changed[g] for g in self._computed(reader) if g in self.changed]
        if reader.op_type == "Add" or not others:
            return np.exp2(exponent) * (others[0] / np.exp2(np.rint(np.log2(others[0]))) if others else 1.0)
        rounding = self._rounding(reader)
        if rounding is None or rounding not in self.changed:
            return np.exp2(exponent)
        ratio = self.changed[rounding].astype(np.float64) / others[0]
        products = np.rint(np.log2(ratio)) - exponent  # k
        levels = ratio / np.exp2(np.rint(np.log2(ratio)))
        return np.exp2(exponent) * levels / np.where(products > 0, 1 + np.exp2(-products), 1.0)

    def scale_biases(self) -> None:
        """Round every int32 bias anew, in steps of its input times its weight."""
        for node in self.graph.node:
            if node.op_type != "DequantizeLinear" or node.input[0] not in self.values:
                continue
            stored = self.values[node.input[0]]
            (reader, *_) = self.readers.get(node.output[0], [node])
            steps = [self.producer.get(name) for name in reader.input[:2]]
            if stored.dtype != np.int32 or any(s is None or s.op_type != "DequantizeLinear" for s in steps):
                continue
            scales = [self.changed.get(s.input[1], self.values[s.input[1]]) for s in steps if s is not None]
            old = self.values[node.input[1]]
            step = np.asarray(np.float32(scales[0]) * scales[1]).reshape(old.shape)
            bias = self._float_weight(node, stored, 0)
            info = np.iinfo(np.int32)
            self._write(node.input[1], step)
            self._write(node.input[0], np.clip(np.rint(bias / step), info.min, info.max))

    def _rounding(self, node: NodeProto) -> str | None:
        """Return the group to which a node's result is rounded, behind activations."""
        while True:
            after = self.readers.get(node.output[0], [])
            if len(after) != 1:
                return None
            (node,) = after
            if node.op_type == "QuantizeLinear":
                return node.input[1]
            if node.op_type not in _PASS:
                return None

    def _maker(self, name: str) -> NodeProto | None:
        """Return the node that computes a tensor, before activations."""
        node = self.producer.get(name)
        while node is not None and node.op_type in _PASS and self._group(node.input[0]) is None:
            node = self.producer.get(node.input[0])
        return node

    def _group(self, name: str) -> str | None:
        node = self.producer.get(name)
        return node.input[1] if node is not None and node.op_type == "DequantizeLinear" else None

    def _is_stored(self, name: str) -> bool:
        node = self.producer.get(name)
        return node is not None and node.op_type == "DequantizeLinear" and node.input[0] in self.values

    def _float_weight(self, node: NodeProto, stored: np.ndarray, axis: int) -> np.ndarray:
        """Return the fp32 tensor, or, where its name is gone, what is stored of it."""
        found = self.float_values.get(node.input[0].removesuffix("_quantized"))
        if found is not None and tuple(found.dims) == stored.shape:
            return numpy_helper.to_array(found).astype(np.float64)
        scale, point = self.values[node.input[1]], self.values[node.input[2]]
        whole = np.asarray(stored, dtype=np.float64) - _spread(point.astype(np.float64), stored.ndim, axis)
        return whole * _spread(scale.astype(np.float64), stored.ndim, axis)

    def _write(self, name: str, value: object) -> None:
        old = self.values[name]
        self.changed[name] = np.asarray(value).astype(old.dtype).reshape(old.shape)


def _part_means(graph: GraphProto) -> None:
    """Give the mean of a pool a scale of its own: the quantiser lets it share its input's."""
    producer = makers(graph)
    constants = {i.name: i for i in graph.initializer}
    parted: dict[str, str] = {}  # rounded tensor -> scale
    for node in graph.node:
        maker = producer.get(node.input[0])
        if node.op_type == "QuantizeLinear" and maker is not None and maker.op_type == "AveragePool":
            scale = f"{node.output[0]}_scale"
            copy = numpy_helper.from_array(numpy_helper.to_array(constants[node.input[1]]), scale)
            graph.initializer.append(copy)
            node.input[1] = parted[node.output[0]] = scale
        elif node.op_type == "DequantizeLinear" and node.input[0] in parted:
            node.input[1] = parted[node.input[0]]


def _exponent(scale: np.ndarray | float) -> np.ndarray:
    """Return the exponent of the smallest power of two that is not below `scale`."""
    return np.ceil(np.log2(np.asarray(scale, np.float64)) - 1e-6)


def _best(
    weight: np.ndarray, choices: list[np.ndarray], point: np.ndarray, axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return scales and rounded weights: for every channel the choice that errs least."""
    info = np.iinfo(point.dtype)
    low = -info.max if info.min < 0 else 0  # symmetric
    others = tuple(d for d in range(weight.ndim) if not point.ndim or d != axis % weight.ndim)
    points = _spread(point.astype(np.float64), weight.ndim, axis)
    best: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for scales in choices:
        steps = _spread(scales, weight.ndim, axis)
        rounded = np.clip(np.rint(weight / steps) + points, low, info.max)
        error = np.square((rounded - points) * steps - weight).sum(axis=others)
        if best is None:
            best = (error, scales, rounded)
            continue
        better = np.asarray(error < best[0])
        chosen = _spread(better, weight.ndim, axis)
        best = (
            np.where(better, error, best[0]),
            np.where(better, scales, best[1]),
            np.where(chosen, rounded, best[2]),
        )
    assert best is not None
    return best[1], best[2]


def _spread(values: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """Shape one value a channel so that it multiplies a tensor of `rank` dimensions along `axis`."""
    if not values.ndim or not rank:
        return values
    shape = [1] * rank
    shape[axis % rank] = -1
    return values.reshape(shape)
