"""Probe networks: small random ONNX graphs whose kernels cover the shapes of edge networks.

A kernel is timed where it will live: inside a network, its input just written by the kernel before it.
The designed grid (kernel kinds x shape families x channel staircase) is laid out as short chains of real
building blocks with random widths: round ones, multiples of 4, and odd ones as after pruning. Whole
networks, the other half of the probes, are in `probe_nets`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dtp_edge.measure.probe_builder import Builder
from dtp_edge.measure.probe_parts import (
    attention_block,
    linear_block,
    shuffle,
    squeeze_excite,
    to_tokens,
)

MAX_MACS = (40e6, 400e6)  # of an ordinary probe (about a millisecond on a laptop core), and of one in twelve
MAX_CHANNELS = 1024


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
        squeeze_excite(b)
    keep_shape = stride == 1 and b.rng.random() < 0.6
    b.conv(c if keep_shape else b.width(high=192), 1)
    if keep_shape:
        b.x = b.add("Add", b.x, skip)


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
    to_tokens(b)
    if b.rng.random() < 0.5 and n <= 400:
        attention_block(b, n, c)
    else:
        linear_block(b, n, c, wide, str(b.rng.choice(["Gelu", "SiLU", "Relu"])))
    back = b.literal(np.array([1, c, b.h, b.w], dtype=np.int64))
    b.x = b.add("Reshape", b.add("Transpose", b.x, perm=[0, 2, 1]), back)


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


def probe_chain(seed: int, blocks: int = 8) -> bytes:
    """Return one random chain of blocks as a serialised ONNX model (opset 18, IR 10, batch 1)."""
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
