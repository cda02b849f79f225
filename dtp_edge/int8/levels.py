"""Which tensors of a QDQ graph share a scale, and which scales must differ by a factor (1 + 2^-12)^level.

A group is all tensors that share one scale, and is named by it. See `passes.shared_scales` for the reason.
"""

from __future__ import annotations

import onnx_ir as ir

EPSILON = 2.0**-12
PASSED_ON = {"Relu", "Clip", "LeakyRelu", "MaxPool", "Identity"}  # keep their input's multiples, or nearly
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Mul"}

Group = ir.Value  # the scale


class Levels:
    """The groups of a graph and their levels."""

    def __init__(self, graph: ir.Graph) -> None:
        quantize = [n for n in graph if n.op_type == "QuantizeLinear" and n.inputs[0] is not None]
        self.roundings = [n for n in quantize if n.inputs[0] is not None and n.inputs[0].const_value is None]
        self._levels: dict[Group, int] = {}
        self._shared: dict[Group, Group] = {}  # group -> another with which it shares its level
        self._members: dict[Group, list[ir.Node]] = {}
        for node in self.roundings:
            self._share(node)
        for node in self.roundings:
            self._members.setdefault(self._head(self.rounded_to(node)), []).append(node)

    def level(self, group: Group) -> int:
        """Return the smallest level that differs from those of the values that are rounded to the group."""
        head = self._head(group)
        if head in self._levels:
            return self._levels[head]
        self._levels[head] = 0  # what a loop sees
        taken = {level for node in self._members.get(head, []) for level in self._natural(node)}
        self._levels[head] = next(level for level in range(len(taken) + 1) if level not in taken)
        return self._levels[head]

    def computed(self, node: ir.Node | None) -> list[Group]:
        """Return the groups of a node's operands that are no stored weights."""
        values = node.inputs if node is not None else []
        return [g for v in values if (g := group_of(v)) is not None and not _is_stored(v)]

    def rounded_to(self, quantize: ir.Node) -> Group:
        """Return the group to which a QuantizeLinear rounds."""
        scale = quantize.inputs[1]
        if scale is None:
            raise ValueError(f"{quantize.name!r} has no scale")
        return scale

    def _share(self, quantize: ir.Node) -> None:
        """Put the operands of a sum on one level, so that their sums are multiples of a power of two."""
        maker = _maker(quantize.inputs[0])
        operands = self.computed(maker) if maker is not None and maker.op_type == "Add" else []
        if len(operands) == 2:
            self._shared[self._head(operands[0])] = self._head(operands[1])

    def _head(self, group: Group) -> Group:
        """Return the group that stands for all that share its level."""
        while self._shared.get(group, group) is not group:
            group = self._shared[group]
        return group

    def _natural(self, quantize: ir.Node) -> set[int]:
        """Return the levels of the values that are rounded; none where a stored weight sets them apart."""
        maker = _maker(quantize.inputs[0])
        computed = self.computed(maker)
        if maker is None or not computed or (maker.op_type in _WEIGHTED and len(computed) == 1):
            return set()
        if maker.op_type in ("Mul", "MatMul"):
            return {sum(map(self.level, computed))}
        return {self.level(g) for g in computed if g is not quantize.inputs[1]}


def group_of(value: ir.Value | None) -> Group | None:
    """Return the group of a tensor that is read back from int8, None for another."""
    node = value.producer() if value is not None else None
    return node.inputs[1] if node is not None and node.op_type == "DequantizeLinear" else None


def _maker(value: ir.Value | None) -> ir.Node | None:
    """Return the node that computes a tensor, before activations."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in PASSED_ON and group_of(node.inputs[0]) is None:
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return node


def _is_stored(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return False
    return node.inputs[0].const_value is not None
