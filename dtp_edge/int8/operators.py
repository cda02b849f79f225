"""Which operators are quantised."""

from __future__ import annotations

import onnx_ir as ir

# Norms, softmax, Where and index operators stay in float: few runtimes have int8 kernels for them, and
# they cost accuracy for little time. Shape operators are quantised only to carry int8 values through.
_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat")
_ACTIVATION = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool")
SHAPE_OPS = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Split", "Slice", "Pad", "Resize")
QUANTIZED_OPS = frozenset((*_COMPUTE, *_ACTIVATION, *SHAPE_OPS))


def gelu_nodes(model: ir.Model) -> frozenset[str]:
    """Name the sums and products of every GELU, which stay in float.

    `1 + erf` in 256 steps over [-1, 1] puts the one in the middle between two steps of the sum, so runtimes
    round either way (25 % of values in ConvNeXt); and ONNX Runtime has one kernel for a whole float GELU.
    """
    found: set[str | None] = set()
    for node in model.graph:
        if node.op_type != "Erf":
            continue
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if before is not None and before.op_type == "Mul":
            found.add(before.name)
        found.add(node.name)
        for _ in range(3):  # the sum with one, the product with x, the halving
            after = node.outputs[0].consumers()
            if len(node.outputs[0].uses()) != 1 or after[0].op_type not in ("Add", "Mul"):
                break
            (node,) = after
            found.add(node.name)
    return frozenset(name for name in found if name)
