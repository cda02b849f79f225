"""Parts of probe networks that several kinds of them use."""

from __future__ import annotations

import numpy as np

from dtp_edge.measure.probe_builder import Builder


def squeeze_excite(b: Builder) -> None:
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


def shuffle(b: Builder) -> None:
    if b.c % 2 == 0:
        five = b.literal(np.array([1, 2, b.c // 2, b.h, b.w], dtype=np.int64))
        four = b.literal(np.array([1, b.c, b.h, b.w], dtype=np.int64))
        moved = b.add("Transpose", b.add("Reshape", b.x, five), perm=[0, 2, 1, 3, 4])
        b.x = b.add("Reshape", moved, four)


def pool(b: Builder, kind: str, kernel: int, stride: int, pad: int) -> None:
    """Max or average pooling."""
    b.x = b.add(kind, b.x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
    b.h, b.w = ((s + 2 * pad - kernel) // stride + 1 for s in (b.h, b.w))


def to_tokens(b: Builder) -> None:
    """From (1, c, h, w) to (1, h * w, c)."""
    flat = b.literal(np.array([1, b.c, b.h * b.w], dtype=np.int64))
    b.x = b.add("Transpose", b.add("Reshape", b.x, flat), perm=[0, 2, 1])


def layer_norm(b: Builder, c: int) -> None:
    b.x = b.add("LayerNormalization", b.x, b.constant(c), b.constant(c), axis=-1, epsilon=1e-6)


def linear(b: Builder, rows: int, cin: int, cout: int) -> None:
    b.x = b.add("Add", b.add("MatMul", b.x, b.constant(cin, cout, fan_in=cin)), b.constant(cout))
    b.macs += float(rows) * cin * cout


def linear_block(b: Builder, n: int, c: int, wide: int, act: str) -> None:
    """Norm, two linear layers with an activation between them, residual; on tokens (1, n, c)."""
    skip = b.x
    layer_norm(b, c)
    linear(b, n, c, wide)
    b.act(act)
    linear(b, n, wide, c)
    b.x = b.add("Add", b.x, skip)


def attention_block(b: Builder, n: int, c: int) -> None:
    """Norm, self-attention, residual; on tokens (1, n, c)."""
    skip = b.x
    layer_norm(b, c)
    heads = next((k for k in (8, 6, 4, 3, 2) if c % k == 0 and c // k >= 16), 1)
    shape = b.literal(np.array([1, n, heads, c // heads], dtype=np.int64))
    query, key, value = _projections(b, n, c)
    # As in a network, so that no probability is as small as a subnormal: some processors take thirty times as
    # long for a product with those. The projections' outputs have a variance of some 10.
    query = b.add("Mul", query, b.literal(np.float32(0.1 / np.sqrt(c // heads))))
    parts = [
        b.add("Transpose", b.add("Reshape", x, shape), perm=perm)
        for x, perm in ((query, [0, 2, 1, 3]), (key, [0, 2, 3, 1]), (value, [0, 2, 1, 3]))
    ]
    weights = b.add("Softmax", b.add("MatMul", parts[0], parts[1]), axis=-1)
    mixed = b.add("Transpose", b.add("MatMul", weights, parts[2]), perm=[0, 2, 1, 3])
    b.x = b.add("Reshape", mixed, b.literal(np.array([1, n, c], dtype=np.int64)))
    linear(b, n, c, c)
    b.macs += 2.0 * n * n * c
    b.x = b.add("Add", b.x, skip)


def _projections(b: Builder, n: int, c: int) -> tuple[str, str, str]:
    """Return query, key, value: three linear layers, or one that is split."""
    source = b.x
    if b.rng.random() < 0.5:
        linear(b, n, c, 3 * c)
        sizes = b.literal(np.array([c, c, c], dtype=np.int64))
        first = b.add("Split", b.x, sizes, outputs=3, axis=-1)
        return first, f"{first}_1", f"{first}_2"
    names = []
    for _ in range(3):
        b.x = source
        linear(b, n, c, c)
        names.append(b.x)
    return names[0], names[1], names[2]


def classify(b: Builder, cin: int) -> None:
    """A last linear layer to 10, 100 or 1000 classes."""
    classes = int(b.rng.choice([10, 100, 1000], p=[0.1, 0.1, 0.8]))
    b.x = b.add("Gemm", b.x, b.constant(classes, cin), b.constant(classes), transB=1)
