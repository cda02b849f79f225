"""The mean of a pool has a scale of its own: the quantiser lets it share its input's.

With one scale for both, the mean of four values often lies exactly in the middle between two steps, where a
runtime that multiplies by a rounded reciprocal decides by chance (see `shared_scales`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult, PostconditionError

from dtp_edge.int8.case import Int8Rewrite
from dtp_edge.onnx.rewriting import Maker, array, stored


class PartedMeans(Int8Rewrite):
    """The rounding behind an AveragePool, and what reads it back, get a copy of their scale."""

    after = ("float_to_float",)
    same_bits = True

    def call(self, model: ir.Model) -> PassResult:
        make, found = Maker(model.graph), False
        for node in _means(model.graph):
            scale = make.value(f"{node.outputs[0].name}_scale")
            model.graph.register_initializer(stored(scale, np.array(array(node.inputs[1]))))
            for reader in [node, *node.outputs[0].consumers()]:
                if reader.op_type in ("QuantizeLinear", "DequantizeLinear"):
                    reader.replace_input_with(1, scale)
            found = True
        return PassResult(model, found)

    def ensures(self, model: ir.Model) -> None:
        """No mean of a pool shares its scale with another tensor that is rounded."""
        super().ensures(model)
        for node in _means(model.graph):
            scale = node.inputs[1]
            sharers = scale.consumers() if scale is not None else ()
            if any(n.op_type == "QuantizeLinear" and n is not node for n in sharers):
                raise PostconditionError(f"{node.name!r} shares its scale")


def _means(graph: ir.Graph) -> list[ir.Node]:
    """Return the roundings of pools' means."""
    makers = {
        n: n.inputs[0].producer() for n in graph if n.op_type == "QuantizeLinear" and n.inputs[0] is not None
    }
    return [n for n, maker in makers.items() if maker is not None and maker.op_type == "AveragePool"]
