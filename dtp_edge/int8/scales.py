"""New scales, zero points, weights and biases of a QDQ graph, by the levels of its groups.

Nothing is changed in the graph: `changed` holds the new values. See `passes.shared_scales` for the reason.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dtp_edge.int8.levels import EPSILON, PASSED_ON, Group, Levels, group_of
from dtp_edge.onnx.rewriting import array


class Scales:
    """The new values of a QDQ graph whose fp32 model is `source`; activations first, then weights, biases."""

    def __init__(self, graph: ir.Graph, source: ir.Model | None) -> None:
        self.graph, self.levels = graph, Levels(graph)
        self.order = {node: place for place, node in enumerate(graph)}
        self.float_values = dict(source.graph.initializers) if source is not None else {}
        self.changed: dict[ir.Value, np.ndarray] = {}

    def scale_activations(self) -> None:
        """Find the scale and zero point of every group of activations."""
        for node in self.levels.roundings:
            scale, point = node.inputs[1:3]
            if scale is None or point is None or scale in self.changed:
                continue
            old, zero = float(_value(scale)), _value(point)
            factor = (1 + EPSILON) ** self.levels.level(scale)
            new = float(np.exp2(_exponent(old / factor))) * factor
            info = np.iinfo(zero.dtype)
            place = np.rint(info.min + (float(zero) - info.min) * old / new)
            self._write(scale, new)
            self._write(point, np.clip(place, info.min, info.max))

    def scale_weights(self) -> None:
        """Round every stored weight anew, each channel in the steps that suit it best."""
        for node in self.graph:
            weight, scale, point = _stored_parts(node)
            if weight is None or weight in self.changed or _value(weight).dtype == np.int32:
                continue
            axis = node.attributes.get_int("axis", 1)
            wanted = self._float_weight(node, axis)
            highest = _exponent(_value(scale)) + 1
            choices = [self._step(node, highest - halvings) for halvings in range(3)]
            scales, rounded = _best(wanted, choices, _value(point), axis)
            self._write(scale, scales)
            self._write(weight, rounded)

    def scale_biases(self) -> None:
        """Round every int32 bias anew, in steps of its input times its weight."""
        for node in self.graph:
            bias, scale, _ = _stored_parts(node)
            if bias is None or _value(bias).dtype != np.int32:
                continue
            reader = self._reader(node)
            groups = [group for value in reader.inputs[:2] if (group := group_of(value)) is not None]
            if len(groups) != len(reader.inputs[:2]):
                continue
            scales = [self.changed.get(g, _value(g)) for g in groups]
            step = np.asarray(np.float32(scales[0]) * scales[1]).reshape(_value(scale).shape)
            wanted, info = self._float_weight(node, 0), np.iinfo(np.int32)
            self._write(scale, step)
            self._write(bias, np.clip(np.rint(wanted / step), info.min, info.max))

    def _step(self, node: ir.Node, exponent: np.ndarray) -> np.ndarray:
        """Return 2^exponent, times what puts the products apart from the middles between the result's steps.

        Where the result's step is 2^k products, a factor 1 / (1 + 2^-k) keeps all sums half a product away.
        """
        reader = self._reader(node)
        others = [self.changed[g] for g in self.levels.computed(reader) if g in self.changed]
        if reader.op_type == "Add" or not others:
            return np.exp2(exponent) * (others[0] / np.exp2(np.rint(np.log2(others[0]))) if others else 1.0)
        rounding = _rounding(reader)
        if rounding is None or rounding not in self.changed:
            return np.exp2(exponent)
        ratio = self.changed[rounding].astype(np.float64) / others[0]
        products = np.rint(np.log2(ratio)) - exponent  # k
        levels = ratio / np.exp2(np.rint(np.log2(ratio)))
        return np.exp2(exponent) * levels / np.where(products > 0, 1 + np.exp2(-products), 1.0)

    def _reader(self, node: ir.Node) -> ir.Node:
        """Return the first node that reads a node's output, or the node itself where none does."""
        return min(node.outputs[0].consumers(), key=self.order.__getitem__, default=node)

    def _float_weight(self, node: ir.Node, axis: int) -> np.ndarray:
        """Return the fp32 tensor of a stored one, or, where its name is gone, what is stored of it."""
        weight, scale, point = _stored_parts(node)
        stored = _value(weight)
        name = str(weight.name if weight is not None else "").removesuffix("_quantized")
        found = array(self.float_values.get(name))
        if found is not None and found.shape == stored.shape:
            return found.astype(np.float64)
        zero, step = _value(point).astype(np.float64), _value(scale).astype(np.float64)
        whole = np.asarray(stored, dtype=np.float64) - _spread(zero, stored.ndim, axis)
        return whole * _spread(step, stored.ndim, axis)

    def _write(self, value: ir.Value | None, new: object) -> None:
        old = _value(value)
        if value is not None:
            self.changed[value] = np.asarray(new).astype(old.dtype).reshape(old.shape)


def _stored_parts(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None, ir.Value | None]:
    """Return the constant that a DequantizeLinear reads, its scale and zero point; None for another node."""
    if node.op_type != "DequantizeLinear" or array(node.inputs[0]) is None:
        return None, None, None
    weight, scale, point = node.inputs[:3]
    return weight, scale, point


def _rounding(node: ir.Node) -> Group | None:
    """Return the group to which a node's result is rounded, behind activations."""
    while True:
        after = node.outputs[0].consumers()
        if len(after) != 1 or len(node.outputs[0].uses()) != 1:
            return None
        (node,) = after
        if node.op_type == "QuantizeLinear":
            return node.inputs[1]
        if node.op_type not in PASSED_ON:
            return None


def _value(value: ir.Value | None) -> np.ndarray:
    """Return a constant's array. Raises ValueError for a tensor that is computed."""
    found = array(value)
    if found is None:
        raise ValueError(
            f"{value.name if value is not None else 'a missing input'!r} is not stored in the file"
        )
    return found


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
    error, best, stored = np.inf, choices[0], np.zeros_like(weight)
    for scales in choices:
        steps = _spread(scales, weight.ndim, axis)
        rounded = np.clip(np.rint(weight / steps) + points, low, info.max)
        errs = np.square((rounded - points) * steps - weight).sum(axis=others)
        better = np.asarray(errs < error)
        best, error = np.where(better, scales, best), np.where(better, errs, error)
        stored = np.where(_spread(better, weight.ndim, axis), rounded, stored)
    return best, stored


def _spread(values: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """Shape one value a channel so that it multiplies a tensor of `rank` dimensions along `axis`."""
    if not values.ndim or not rank:
        return values
    shape = [1] * rank
    shape[axis % rank] = -1
    return values.reshape(shape)
