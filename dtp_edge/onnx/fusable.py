"""GELU in the order of multiplications that ONNX Runtime knows.

torch writes `x * (0.5 * (1 + erf(x / sqrt 2)))`; ONNX Runtime (1.32) makes one kernel of
`(x * (1 + erf(x / sqrt 2))) * 0.5` only, and runs five kernels otherwise. Halving is exact, so both
orders round alike (subnormal numbers apart).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from dtp_edge.onnx.wiring import makers


def fuse_gelu(model: ModelProto) -> ModelProto:
    """Reorder the multiplications of every GELU in place and return the model."""
    constants = {i.name: i for i in model.graph.initializer}
    producer = makers(model.graph)
    uses = Counter(name for node in model.graph.node for name in node.input)
    uses.update(output.name for output in model.graph.output)
    for node in model.graph.node:
        half = _halved(node, constants, producer, uses)
        if half is None:
            continue
        product, scale, factor = half  # node = x * (scale * factor)
        x = next(name for name in node.input if name != product.output[0])
        del product.input[:], node.input[:]
        product.input.extend([x, factor])
        node.input.extend([product.output[0], scale])
    return model


def _halved(
    node: NodeProto,
    constants: dict[str, TensorProto],
    producer: dict[str, NodeProto],
    uses: Counter[str],
) -> tuple[NodeProto, str, str] | None:
    """Return (the inner product, the name of one half, the name of 1 + erf) of a GELU's last node."""
    if node.op_type != "Mul":
        return None
    for name in node.input:
        product = producer.get(name)
        if product is None or product.op_type != "Mul" or uses[name] != 1:
            continue
        for scale, factor in (tuple(product.input), tuple(reversed(product.input))):
            total = producer.get(factor)
            if not _is_half(constants.get(scale)) or total is None or total.op_type != "Add":
                continue
            if any(getattr(producer.get(term), "op_type", "") == "Erf" for term in total.input):
                return product, scale, factor
    return None


def _is_half(tensor: TensorProto | None) -> bool:
    if tensor is None:
        return False
    value = numpy_helper.to_array(tensor)
    return value.size == 1 and bool(np.all(value == 0.5))
