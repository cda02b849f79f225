"""Probe networks: small random ONNX graphs whose kernels cover the shapes of edge networks.

A kernel is timed where it will live: inside a network, its input just written by the kernel before it.
So the designed grid (kernel kinds x shape families x channel staircase) is laid out as short chains of
real building blocks with random widths: round ones, multiples of 4, and odd ones as after pruning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 18, 10
MAX_MACS = (40e6, 400e6)  # of an ordinary probe (about a millisecond on a laptop core), and of one in twelve
MAX_CHANNELS = 1024
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
    max_macs: float = MAX_MACS[0]

    def __post_init__(self) -> None:
        self.pool = self.rng.standard_normal(_POOL_FLOATS).astype(np.float32)

    def constant(self, *shape: int, fan_in: int | None = None) -> str:
        """Return random weights that keep activations near 1 (subnormals would cost five times as much)."""
        fan = int(np.prod(shape[1:])) if fan_in is None else fan_in
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


def plain_conv(b: Builder) -> None:
    kernel = int(b.rng.choice([1, 3, 5, 7], p=[0.3, 0.5, 0.12, 0.08]))
    stride = int(b.rng.choice([1, 2], p=[0.75, 0.25])) if b.h > 4 else 1
    cout = b.width()
    if b.fits(cout, kernel):
        b.conv(cout, kernel, stride)
        b.act(str(b.rng.choice(["Relu", "Clip", "SiLU", "LeakyRelu", ""], p=[0.5, 0.1, 0.15, 0.05, 0.2])))


def basic_block(b: Builder) -> None:
    if not b.fits(2 * b.c, 3):
        return
    skip, c = b.x, b.c
    b.conv(b.width(high=2 * c), 3)
    b.act("Relu")
    b.conv(c, 3)
    b.x = b.add("Add", b.x, skip)
    b.act("Relu")


def bottleneck(b: Builder) -> None:
    inner = max(4, b.width(high=256))
    if not b.fits(inner, 3):
        return
    skip, c = b.x, b.c
    b.conv(inner, 1)
    b.act("Relu")
    b.conv(inner, 3)
    b.act("Relu")
    b.conv(c, 1)
    b.x = b.add("Add", b.x, skip)
    b.act("Relu")


def inverted(b: Builder) -> None:
    inner = b.width(low=16, high=768)
    if not b.fits(2 * inner, 1):
        return
    skip, c = b.x, b.c
    kind = str(b.rng.choice(["Relu", "Clip", "HardSwish", "SiLU"]))
    b.conv(inner, 1)
    b.act(kind)
    stride = int(b.rng.choice([1, 2])) if b.h > 6 else 1
    b.conv(inner, int(b.rng.choice([3, 5, 7], p=[0.55, 0.35, 0.1])), stride, inner)
    b.act(kind)
    if b.rng.random() < 0.4:
        _squeeze_excite(b)
    keep_shape = stride == 1 and b.rng.random() < 0.6
    b.conv(c if keep_shape else b.width(high=192), 1)
    if keep_shape:
        b.x = b.add("Add", b.x, skip)


def _squeeze_excite(b: Builder) -> None:
    wide, h, w, c = b.x, b.h, b.w, b.c
    if b.rng.random() < 0.5:
        b.x = b.add("GlobalAveragePool", b.x)
    else:
        axes = b.literal(np.array([2, 3], dtype=np.int64))
        b.x = b.add("ReduceMean", b.x, axes, keepdims=1)
    b.h = b.w = 1
    b.conv(max(4, c // 4), 1)
    b.act("Relu")
    b.conv(c, 1)
    b.act(str(b.rng.choice(["HardSigmoid", "Sigmoid"])))
    b.x, b.h, b.w = b.add("Mul", wide, b.x), h, w


def depthwise(b: Builder) -> None:
    b.conv(b.c, int(b.rng.choice([3, 5, 7])), 1, b.c)
    b.act(str(b.rng.choice(["Relu", ""])))


def grouped(b: Builder) -> None:
    per_group = int(b.rng.choice([4, 8, 12, 16, 24, 32, 9]))
    groups = int(b.rng.integers(2, 49))
    c = per_group * groups
    if c <= MAX_CHANNELS and b.fits(c + c * per_group // b.c, 3):
        b.conv(c, 1)
        b.act("Relu")
        b.conv(c, 3, int(b.rng.choice([1, 2], p=[0.75, 0.25])) if b.h > 4 else 1, groups)
        b.act("Relu")


def concat(b: Builder) -> None:
    left, c = b.x, b.c
    extra = b.width(high=256)
    if b.fits(extra, 3) and c + extra <= MAX_CHANNELS:
        b.conv(extra, int(b.rng.choice([1, 3])))
        b.act("Relu")
        b.x, b.c = b.add("Concat", left, b.x, axis=1), c + extra
        if b.rng.random() < 0.4:
            stats = [b.constant(b.c) for _ in range(3)]
            ones = b.literal(np.ones(b.c, dtype=np.float32))
            b.x = b.add("BatchNormalization", b.x, *stats, ones, epsilon=1e-5)
            b.act("Relu")


def split(b: Builder) -> None:
    cut = int(b.rng.integers(1, b.c)) if b.c > 1 else 0
    if cut:
        sizes = b.literal(np.array([cut, b.c - cut], dtype=np.int64))
        first = b.add("Split", b.x, sizes, outputs=2, axis=1)
        b.x = b.add("Concat", first + "_1", first, axis=1)


def shuffle(b: Builder) -> None:
    if b.c % 2 == 0:
        five = b.literal(np.array([1, 2, b.c // 2, b.h, b.w], dtype=np.int64))
        four = b.literal(np.array([1, b.c, b.h, b.w], dtype=np.int64))
        moved = b.add("Transpose", b.add("Reshape", b.x, five), perm=[0, 2, 1, 3, 4])
        b.x = b.add("Reshape", moved, four)


def pool(b: Builder) -> None:
    if b.h < 4:
        return
    kind = str(b.rng.choice(["MaxPool", "AveragePool"]))
    kernel, stride = ((2, 2), (3, 2), (3, 1))[int(b.rng.integers(3))]
    pad = kernel // 2 if kernel == 3 else 0
    b.x = b.add(kind, b.x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
    b.h, b.w = ((s + 2 * pad - kernel) // stride + 1 for s in (b.h, b.w))


def resize(b: Builder) -> None:
    if b.h <= 28 and b.c <= 128:
        scales = b.literal(np.array([1, 1, 2, 2], dtype=np.float32))
        mode, how = (("nearest", "asymmetric"), ("linear", "pytorch_half_pixel"))[int(b.rng.integers(2))]
        b.x = b.add(
            "Resize", b.x, "", scales, mode=mode, nearest_mode="floor", coordinate_transformation_mode=how
        )
        b.h, b.w = 2 * b.h, 2 * b.w


def elementwise(b: Builder) -> None:
    b.x = b.add(str(b.rng.choice(["Add", "Mul", "Sub"])), b.x, b.constant(1, b.c, 1, 1))
    kinds = ["Relu", "Clip", "Sigmoid", "HardSwish", "HardSigmoid", "SiLU", "Gelu", "Tanh", "LeakyRelu"]
    b.act(str(b.rng.choice(kinds)))


def tokens(b: Builder) -> None:
    """Tokens as in a transformer or ConvNeXt block: norm, linear, GELU, linear, residual."""
    n, c = b.h * b.w, b.c
    wide = int(b.rng.choice([2, 3, 4]) * c)
    if n > 3136 or not b.fits(2 * wide, 1):
        return
    flat = b.literal(np.array([1, c, n], dtype=np.int64))
    b.x = b.add("Transpose", b.add("Reshape", b.x, flat), perm=[0, 2, 1])
    skip = b.x
    b.x = b.add("LayerNormalization", b.x, b.constant(c), b.constant(c), axis=-1, epsilon=1e-6)
    if b.rng.random() < 0.5 and n <= 400:
        _attention(b, n, c)
    else:
        _linear(b, n, c, wide)
        b.act(str(b.rng.choice(["Gelu", "SiLU", "Relu"])))
        _linear(b, n, wide, c)
    b.x = b.add("Add", b.x, skip)
    back = b.literal(np.array([1, c, b.h, b.w], dtype=np.int64))
    b.x = b.add("Reshape", b.add("Transpose", b.x, perm=[0, 2, 1]), back)


def _linear(b: Builder, rows: int, cin: int, cout: int) -> None:
    b.x = b.add("Add", b.add("MatMul", b.x, b.constant(cin, cout, fan_in=cin)), b.constant(cout))
    b.macs += float(rows) * cin * cout


def _attention(b: Builder, n: int, c: int) -> None:
    heads = next((k for k in (4, 3, 2) if c % k == 0), 1)
    source, parts = b.x, []
    shape = b.literal(np.array([1, n, heads, c // heads], dtype=np.int64))
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        b.x = source
        _linear(b, n, c, c)
        parts.append(b.add("Transpose", b.add("Reshape", b.x, shape), perm=perm))
    weights = b.add("Softmax", b.add("MatMul", parts[0], parts[1]), axis=-1)
    mixed = b.add("Transpose", b.add("MatMul", weights, parts[2]), perm=[0, 2, 1, 3])
    b.x = b.add("Reshape", mixed, b.literal(np.array([1, n, c], dtype=np.int64)))
    _linear(b, n, c, c)
    b.macs += 2.0 * n * n * c


def head(b: Builder) -> None:
    """Global pooling, flatten, linear layers: always the last block of a probe. Its weights are as many
    as a whole edge network's, so that they push those of the probe out of the near caches."""
    if b.c * b.h * b.w > 4096 or b.rng.random() < 0.8:
        b.x, b.h, b.w = b.add("GlobalAveragePool", b.x), 1, 1
    b.x = b.add("Flatten", b.x, axis=1)
    cin = b.c * b.h * b.w
    most = (512, 2048, 4096)[int(b.rng.choice(3, p=[0.2, 0.5, 0.3]))]
    for cout in (b.width(high=most), b.width(low=most // 2, high=most), int(b.rng.choice([10, 100, 1000]))):
        b.x = b.add("Gemm", b.x, b.constant(cout, cin), b.constant(cout), transB=1)
        cin = cout


BLOCKS: tuple[tuple[Callable[[Builder], None], float], ...] = (
    (plain_conv, 7),
    (inverted, 6),
    (basic_block, 2),
    (bottleneck, 2),
    (depthwise, 1.5),
    (grouped, 2),
    (concat, 1.5),
    (tokens, 2.5),
    (elementwise, 1.5),
    (pool, 1),
    (split, 0.7),
    (shuffle, 0.7),
    (resize, 0.5),
)


SIZES = (7, 8, 12, 14, 16, 20, 28, 32, 40, 56, 80, 112, 160, 224)
SIZE_SHARES = (0.1, 0.07, 0.04, 0.15, 0.06, 0.03, 0.15, 0.08, 0.03, 0.11, 0.02, 0.05, 0.02, 0.09)


def probe_network(seed: int, blocks: int = 8) -> bytes:
    """Return one random probe network as a serialised ONNX model (opset 18, IR 10, batch 1)."""
    rng = np.random.default_rng(seed)
    size = int(rng.choice(SIZES, p=SIZE_SHARES))
    b = Builder(rng, 16, size, size, max_macs=MAX_MACS[int(rng.random() < 1 / 12)])
    image = size >= 28 and rng.random() < (0.9 if size > 112 else 0.4)
    b.c = int(rng.choice([1, 3], p=[0.2, 0.8])) if image else b.width(high=max(16, 4096 // size))
    start = (b.c, b.h, b.w)
    if image:
        stride = 2 if size > 112 else int(rng.choice([1, 2]))
        b.conv(b.width(high=64), int(rng.choice([3, 5, 7], p=[0.7, 0.1, 0.2])), stride)
        b.act(str(rng.choice(["Relu", "HardSwish", "SiLU", "Clip"])))
    weights = np.array([w for _, w in BLOCKS])
    for index in rng.choice(len(BLOCKS), size=blocks, p=weights / weights.sum()):
        BLOCKS[index][0](b)
    head(b)
    return b.finish(*start)
