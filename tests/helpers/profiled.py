"""The network that the profilers' fixtures are of; its names stay: stem, residual block, depthwise, head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FIXTURES = Path(__file__).parents[1] / "measure" / "printouts"


def profiled_network(path: Path) -> Path:
    """Write the ONNX file: four convolutions (one depthwise), an addition, a mean, a product."""
    random = np.random.default_rng(0)
    stored: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weight(name: str, *shape: int) -> str:
        values = random.normal(size=shape, scale=1.0 / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)
        stored.append(numpy_helper.from_array(values, name))
        return name

    def conv(
        name: str, source: str, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> str:
        inputs = [source, weight(f"{name}.w", cout, cin // groups, kernel, kernel), weight(f"{name}.b", cout)]
        attributes = {
            "strides": [stride] * 2,
            "pads": [kernel // 2] * 4,
            "kernel_shape": [kernel] * 2,
            "group": groups,
        }
        nodes.append(helper.make_node("Conv", inputs, [f"/{name}/out"], name=f"/{name}/Conv", **attributes))
        return f"/{name}/out"

    def node(op: str, name: str, *inputs: str, **attributes: int) -> str:
        nodes.append(helper.make_node(op, list(inputs), [f"/{name}/out"], name=f"/{name}/{op}", **attributes))
        return f"/{name}/out"

    stem = node("Relu", "stem/act", conv("stem/conv", "x", 3, 32, 3, stride=2))
    inner = node("Relu", "block/act", conv("block/conv1", stem, 32, 32, 3))
    whole = node("Relu", "block/end", node("Add", "block", conv("block/conv2", inner, 32, 32, 3), stem))
    deep = node("Relu", "deep/act", conv("deep/dw", whole, 32, 32, 3, stride=2, groups=32))
    wide = node("Relu", "wide/act", conv("wide/pw", deep, 32, 64, 1))
    flat = node("Flatten", "flat", node("GlobalAveragePool", "pool", wide), axis=1)
    nodes.append(
        helper.make_node(
            "Gemm", [flat, weight("head.w", 10, 64), weight("head.b", 10)], ["y"], name="/head/Gemm", transB=1
        )
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])]
    graph = helper.make_graph(nodes, "profiled", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path
