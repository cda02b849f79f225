"""Tensors that only float operators read are not rounded.

The quantiser rounds every output of an operator that it knows. Before Softmax or a norm, which compute in
float, that costs accuracy for nothing; tract 0.23.9 is then wrong on Softmax (by half its range), and
OpenVINO 2026.4 crashes on a Concat that a batch norm reads. Convolutions keep theirs: ONNX Runtime's int8
convolution writes int8 only, and would give way to the float one.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnx_ir.passes import PassResult, PostconditionError

from dtp_edge.int8.case import Int8Rewrite
from dtp_edge.int8.operators import QUANTIZED_OPS, SHAPE_OPS


class Rounding(NamedTuple):
    """A QuantizeLinear, what it rounds, and the DequantizeLinear nodes that read it."""

    node: ir.Node
    source: ir.Value
    back: list[ir.Node]


class FloatToFloat(Int8Rewrite):
    """`Softmax(Dequantize(Quantize(x)))` -> `Softmax(x)`."""

    def call(self, model: ir.Model) -> PassResult:
        found = False
        while (rounding := self._needless(model)) is not None:
            for node in rounding.back:
                node.outputs[0].replace_all_uses_with(rounding.source)
            model.graph.remove([rounding.node, *rounding.back], safe=True)
            found = True
        return PassResult(model, found)

    def ensures(self, model: ir.Model) -> None:
        """No rounding is left whose readers all compute in float."""
        super().ensures(model)
        if (left := self._needless(model)) is not None:
            raise PostconditionError(f"{left.node.name!r} rounds what only float operators read")

    def _needless(self, model: ir.Model) -> Rounding | None:
        """Return the last rounding that nothing needs."""
        for node in reversed(model.graph):
            source = node.inputs[0] if node.op_type == "QuantizeLinear" else None
            maker = source.producer() if source is not None else None
            if source is None or source.is_initializer():
                continue
            if maker is not None and maker.op_type in ("Conv", "ConvTranspose"):
                continue
            back = list(node.outputs[0].consumers())
            users = [user for d in back for user in d.outputs[0].consumers()]
            whole = all(d.op_type == "DequantizeLinear" and not d.outputs[0].is_graph_output() for d in back)
            if users and whole and all(map(self._is_float, users)):
                return Rounding(node, source, back)
        return None

    def _is_float(self, node: ir.Node) -> bool:
        """Return whether a node computes in float; one that only moves values does as its readers do."""
        if node.op_type in SHAPE_OPS:
            after = [reader for value in node.outputs for reader in value.consumers()]
            return bool(after) and all(map(self._is_float, after))
        if node.name and node.name in self.case.float_nodes:
            return True
        return node.op_type not in QUANTIZED_OPS and node.op_type != "QuantizeLinear"
