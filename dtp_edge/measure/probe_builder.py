"""Builds the small ONNX graphs that machines are measured with, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 18, 10
ACTIVATION_MARK = "_act_"  # the runtime names a fused kernel after its activation's output
ACTIVATIONS = ("Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu")
_POOL_FLOATS = 4096  # weights repeat with this period: real numbers that still zip well


@dataclass
class Builder:
    """Collects nodes; `c`, `h`, `w` is the shape of the current tensor `x` (1, c, h, w)."""

    rng: np.random.Generator
    c: int
    h: int
    w: int
    x: str = "input"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    macs: float = 0.0
    max_macs: float = 40e6
    floats: int = 0  # weights so far

    def __post_init__(self) -> None:
        self.pool = self.rng.standard_normal(_POOL_FLOATS).astype(np.float32)

    def constant(self, *shape: int, fan_in: int | None = None) -> str:
        """Return random weights that keep activations near 1 (subnormals would cost five times as much)."""
        fan = int(np.prod(shape[1:])) if fan_in is None else fan_in
        self.floats += int(np.prod(shape))
        values = np.resize(self.pool, shape) * np.sqrt(2.0 / max(1, fan))
        return self.literal(values.astype(np.float32))

    def literal(self, values: np.ndarray | np.generic) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        first = f"t{len(self.nodes)}" + (f"{ACTIVATION_MARK}{op}" if op in ACTIVATIONS else "")
        names = [first + ("" if i == 0 else f"_{i}") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=names[0], **attributes))
        return names[0]

    def conv(self, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        weight = self.constant(cout, self.c // groups, kernel, kernel)
        bias = self.constant(cout)
        self.x = self.add(
            "Conv",
            self.x,
            weight,
            bias,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=groups,
        )
        self.h, self.w = (self.h - 1) // stride + 1, (self.w - 1) // stride + 1
        self.macs += cout * self.c // groups * kernel**2 * self.h * self.w
        self.c = cout

    def act(self, kind: str) -> None:
        if kind in ACTIVATIONS and self.nodes and self.nodes[-1].op_type == "Conv":
            self.x = f"{self.x}{ACTIVATION_MARK}{kind}"  # fused kernels have the name of either node
            self.nodes[-1].name = self.nodes[-1].output[0] = self.x
        if kind == "Clip":
            low, high = (self.literal(np.float32(v)) for v in (0.0, 6.0))
            self.x = self.add("Clip", self.x, low, high)
        elif kind == "SiLU":
            self.x = self.add("Mul", self.x, self.add("Sigmoid", self.x))
        elif kind == "HardSigmoid":
            self.x = self.add("HardSigmoid", self.x, alpha=1 / 6, beta=0.5)
        elif kind == "Gelu":
            root = self.literal(np.float32(np.sqrt(2)))
            erf = self.add("Erf", self.add("Div", self.x, root))
            one, half = self.literal(np.float32(1)), self.literal(np.float32(0.5))
            self.x = self.add("Mul", self.add("Mul", self.x, self.add("Add", erf, one)), half)
        elif kind:
            self.x = self.add(kind, self.x)

    def width(self, low: int = 8, high: int = 512) -> int:
        """Return a random channel count: half of them round, some multiples of 4, some odd."""
        c = float(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        step = self.rng.choice([16, 4, 1], p=[0.5, 0.25, 0.25])
        return int(np.clip(round(c / step) * step, min(step, high), max(high, 1)))

    def fits(self, cout: int, kernel: int = 1) -> bool:
        return self.macs + float(self.c) * cout * kernel**2 * self.h * self.w <= self.max_macs

    def finish(self, channels: int, height: int, width: int) -> bytes:
        shape = [1, channels, height, width]
        graph = helper.make_graph(
            self.nodes,
            "probe",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(self.x, TensorProto.FLOAT, None)],
            self.weights,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="dtp_edge")
        return onnx.shape_inference.infer_shapes(model).SerializeToString()
