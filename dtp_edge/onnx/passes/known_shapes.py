"""Shapes of inner tensors, where the file does not say them: the other passes ask for them.

onnxsim writes them all; a network above 1 GB does not pass through it, and its file may lack some. The
inference of onnx_ir leaves the weights out, so a network of any size can be asked.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import ShapeInferencePass

from dtp_edge.onnx.rewriting import Rewrite


class KnownShapes(Rewrite):
    """Every inner tensor has the shape that ONNX infers, None where it infers none."""

    def call(self, model: ir.Model) -> PassResult:
        if all(v.shape is not None and v.dtype is not None for n in model.graph for v in n.outputs):
            return PassResult(model, False)
        inferred = model.clone()  # inference moves constants about; the interface and their order stay
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(inferred)
        for ours, theirs in zip(model.graph, inferred.graph, strict=True):
            for value, known in zip(ours.outputs, theirs.outputs, strict=True):
                if not value.is_graph_output():
                    value.shape, value.type = known.shape, known.type
        return PassResult(model, True)
