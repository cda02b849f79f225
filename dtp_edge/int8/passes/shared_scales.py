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

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult, PostconditionError

from dtp_edge.int8.case import Int8Rewrite
from dtp_edge.int8.levels import EPSILON, Levels
from dtp_edge.int8.scales import Scales
from dtp_edge.onnx.rewriting import array, stored


class SharedScales(Int8Rewrite):
    """Every scale, zero point, weight and bias of a QDQ file anew, the weights from the fp32 model."""

    after = ("parted_means",)
    same_bits = True

    def call(self, model: ir.Model) -> PassResult:
        scales = Scales(model.graph, self.case.source)
        scales.scale_activations()
        scales.scale_weights()
        scales.scale_biases()
        for value, new in scales.changed.items():
            stored(value, new)
        return PassResult(model, bool(scales.changed))

    def ensures(self, model: ir.Model) -> None:
        """Every activation's scale is a power of two times its level's factor."""
        super().ensures(model)
        levels = Levels(model.graph)
        for node in levels.roundings:
            scale = float(np.asarray(array(node.inputs[1])))
            octaves = np.log2(scale / (1 + EPSILON) ** levels.level(levels.rounded_to(node)))
            if abs(octaves - np.rint(octaves)) > 1e-6:
                raise PostconditionError(f"the scale of {node.name!r} is {scale}")
