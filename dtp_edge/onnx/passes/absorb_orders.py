"""Channels that are shuffled only to be read by convolutions need not be moved: their readers change instead.

What remains of a channel shuffle after pruning is `Gather(Concat(a, b))`, split again and read by a 1x1
convolution and by the next Concat. An order of channels is nothing that a convolution cares about once the
columns of its weight stand in the same order. So every Gather along dimension 1 becomes the order of its
output, handed on through what works channel by channel (activations, pooling, depthwise weights), joined at
Concat, and ended in the weights of Conv, Gemm and MatMul. A Split then takes the same *set* of channels as
before, which after a shuffle is a few stretches of each of its sources and no Gather at all. Where a reader
cannot take another order, the old one is restored by a Gather. See `absorber` for the rules.

OpenVINO 2026.4 is wrong on Conv, Gather, Conv by 0.9 of range, and a Gather moves what need not be moved.
The sums of a convolution run in another order afterwards; beyond that rounding the network is the same.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult, PostconditionError

from dtp_edge.onnx.absorber import Absorber, stretches
from dtp_edge.onnx.rewriting import Maker, Rewrite, array, float_shape


class AbsorbOrders(Rewrite):
    """Gathers of channels vanish into the weights that read them; where that saves nothing, all stays."""

    after = ("known_shapes",)
    opset = 13

    def call(self, model: ir.Model) -> PassResult:
        before = sum(map(stretches, model.graph))
        if not before:
            return PassResult(model, False)
        work = Absorber(model.graph, Maker(model.graph))
        for node in model.graph:
            work.take(node)
        if work.moves_what_is_seen() or work.cost() >= before:
            return PassResult(model, False)
        work.write()
        return PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """Every convolution's weight has as many columns as its input has channels."""
        super().ensures(model)
        for node in model.graph:
            shape, weight = (
                (float_shape(node.inputs[0]), array(node.inputs[1]))
                if node.op_type == "Conv"
                else (None, None)
            )
            if shape is None or weight is None or shape[1] is None:
                continue
            if weight.shape[1] * node.attributes.get_int("group", 1) != shape[1]:
                raise PostconditionError(
                    f"the weight of {node.name!r} does not have the channels of its input"
                )
