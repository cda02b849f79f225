"""A vector looked up by number becomes a Reshape.

torch writes `Gather` with 0, 1, 2, ... in another shape for a mean that keeps its dimensions; ncnn has no
such layer.
"""

from __future__ import annotations

import onnx_ir as ir

from dtp_edge.onnx.rewriting import Maker, NodeRewrite, array, float_shape, node


class NumberedGather(NodeRewrite):
    """`Gather(x, [[0, 1], [2, 3]])` of a vector of 4 -> `Reshape(x, [2, 2])`."""

    op_type = "Gather"
    after = ("absorb_orders",)
    opset = 5

    def match(self, node: ir.Node) -> list[int] | None:
        """Return the index's shape where it counts the whole vector up."""
        shape, index = float_shape(node.inputs[0]), array(node.inputs[1])
        if shape is None or len(shape) != 1 or index is None or index.ndim < 2:
            return None
        return list(index.shape) if index.reshape(-1).tolist() == list(range(shape[0] or 0)) else None

    def build(self, gather: ir.Node, found: list[int], make: Maker) -> list[ir.Node]:
        size = make.constant(f"{gather.outputs[0].name}_shape", found)
        return [node("Reshape", [gather.inputs[0], size], [ir.Value()], gather.name or "")]
