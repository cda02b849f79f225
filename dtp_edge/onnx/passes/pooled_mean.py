"""A mean over all positions becomes a global average pool.

`ReduceMean` over every dimension from the third on is `GlobalAveragePool`, with `Flatten` where the
dimensions were dropped. pnnx 20261020 turns the mean of `[1, C, L]` over L into a Reduction over no axis, and
ncnn then reads beyond the end; and ONNX Runtime has an int8 kernel for GlobalAveragePool, none for
ReduceMean.
"""

from __future__ import annotations

import onnx_ir as ir

from dtp_edge.onnx.rewriting import Maker, NodeRewrite, float_shape, ints, node


class PooledMean(NodeRewrite):
    """`ReduceMean(x, [2, 3])` -> `GlobalAveragePool(x)`, flattened where `keepdims` is 0."""

    op_type = "ReduceMean"
    after = ("absorb_orders",)

    def match(self, node: ir.Node) -> bool | None:
        """Return whether the mean keeps its dimensions, where it is over all positions."""
        rank = len(float_shape(node.inputs[0]) or ())
        axes = ints(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("axes")
        keep = bool(node.attributes.get_int("keepdims", 1))
        if rank not in (3, 4, 5) or axes is None or sorted(a % rank for a in axes) != list(range(2, rank)):
            return None
        if rank == 3 and keep:
            return None  # the mean inside a hand-written layer norm over `[batch, tokens, features]`
        return keep

    def build(self, mean: ir.Node, found: bool, make: Maker) -> list[ir.Node]:
        name = mean.name or ""
        if found:
            return [node("GlobalAveragePool", mean.inputs[:1], [ir.Value()], name)]
        pooled = make.value(f"{mean.outputs[0].name}_pooled")
        return [
            node("GlobalAveragePool", mean.inputs[:1], [pooled], name),
            node("Flatten", [pooled], [ir.Value()], f"{name}_flatten" if name else "", axis=1),
        ]
