"""Probe networks that are whole networks: a stem, stages that halve the resolution, a head.

The chains of `probes` cover odd shapes; these cover what real networks are made of: the first layers on large
images, whole networks of a tenth of a millisecond on small ones, strided convolutions, weights that are cold
because a whole network lies between two calls, and tens of small kernels in a row. Family, depth, widths and
rounding are random: round widths as designed ones, or any integer as after pruning. None copies a published
network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dtp_edge.measure.probe_builder import Builder
from dtp_edge.measure.probe_parts import (
    attention_block,
    classify,
    layer_norm,
    linear_block,
    pool,
    shuffle,
    squeeze_excite,
    to_tokens,
)
from dtp_edge.measure.probes import probe_chain

IMAGES, IMAGE_SHARES = (96, 128, 160, 192, 224, 256), (0.06, 0.12, 0.12, 0.1, 0.55, 0.05)
MACS = (3e7, 8e8)  # of a network, log-uniform
SMALL_IMAGES, SMALL_MACS = (28, 32, 48, 64), (1e6, 3e8)
SMALL = 0.3  # share of the networks whose inputs are thumbnails or spectrograms
MAX_WEIGHTS = 8e6
TRANSFORMERS = 0.1  # share of the networks


@dataclass(frozen=True)
class Style:
    """What the blocks of one network have in common."""

    act: str
    step: int  # widths are multiples of it; 1: any integer, as after pruning
    expand: float
    kernel: int
    excite: float  # share of blocks with squeeze-and-excitation
    per_group: int


def probe_network(seed: int) -> bytes:
    """Return one probe: a whole network for an even seed, a chain of blocks for an odd one."""
    return probe_chain(seed) if seed % 2 else edge_network(seed)


def edge_network(seed: int) -> bytes:
    """Return one random whole network as a serialised ONNX model (opset 18, IR 10, batch 1)."""
    rng = np.random.default_rng([seed, 1])
    size = int(rng.choice(IMAGES, p=IMAGE_SHARES))
    image_channels = 1 if rng.random() < 0.05 else 3
    macs = float(np.exp(rng.uniform(*np.log(MACS))))
    if rng.random() < SMALL:
        size = int(rng.choice(SMALL_IMAGES))
        macs = float(np.exp(rng.uniform(*np.log(SMALL_MACS))))
    b = Builder(rng, image_channels, size, size)
    b.max_macs = macs
    start = (b.c, b.h, b.w)
    acts = ["Relu", "Clip", "HardSwish", "SiLU", "LeakyRelu"]
    style = Style(
        act=str(rng.choice(acts, p=[0.5, 0.12, 0.15, 0.2, 0.03])),
        step=int(rng.choice([16, 8, 4, 1], p=[0.25, 0.3, 0.1, 0.35])),
        expand=float(rng.choice([1.0, 2.0, 3.0, 4.0, 6.0])),
        kernel=int(rng.choice([3, 5, 7], p=[0.65, 0.3, 0.05])),
        excite=float(rng.choice([0.0, 0.5, 1.0], p=[0.55, 0.2, 0.25])),
        per_group=int(rng.choice([4, 8, 16, 24, 32])),
    )
    if rng.random() < TRANSFORMERS:
        _transformer(b, style)
    else:
        _stem(b, style)
        _stages(b, style, _FAMILIES[int(rng.choice(len(_FAMILIES), p=_SHARES))])
        _head(b, style)
    return b.finish(*start)


def _width(b: Builder, style: Style, wanted: float) -> int:
    """Return `wanted` on the network's grid; after pruning, any width from half of it up."""
    if style.step == 1:
        wanted *= b.rng.uniform(0.5, 1.0)
    return int(max(style.step, round(wanted / style.step) * style.step, 4))


def _stem(b: Builder, style: Style) -> None:
    share = b.rng.random()
    wanted = float(b.rng.choice([16, 24, 32, 48, 64]))
    kernel = 3 if share < 0.75 else 7
    b.conv(_width(b, style, wanted), kernel, 2 if b.h > 64 else 1)
    b.act(style.act)
    if share > 0.6 and b.h > 56:
        pool(b, "MaxPool", 3, 2, 1)


def _stages(b: Builder, style: Style, block: Callable[[Builder, Style, int, int], None]) -> None:
    wanted = float(b.c)
    growth = float(b.rng.uniform(1.3, 2.1))
    last_depth = int(b.rng.integers(1, 4))
    while b.h > 6:
        wanted = min(wanted * growth, 1024.0)
        for place in range(int(b.rng.integers(1, 3 + last_depth))):
            stride = 2 if place == 0 else 1
            same = stride == 1 and b.rng.random() < 0.85
            before = b.macs
            block(b, style, b.c if same else _width(b, style, wanted), stride)
            if b.floats > MAX_WEIGHTS:
                return
            if b.macs > b.max_macs * 0.5 or b.macs - before > b.max_macs / 6 or b.floats > MAX_WEIGHTS / 2:
                break  # the rest of the budget is for the later stages


def _head(b: Builder, style: Style) -> None:
    if b.rng.random() < 0.5:
        b.conv(_width(b, style, float(b.rng.choice([320, 512, 960, 1280, 1280]))), 1)
        b.act(style.act)
    b.x = b.add("Flatten", b.add("GlobalAveragePool", b.x), axis=1)
    cin = b.c
    if b.rng.random() < 0.2:
        hidden = int(b.rng.choice([512, 1024, 1280, 4096]))
        b.x = b.add("Gemm", b.x, b.constant(hidden, cin), b.constant(hidden), transB=1)
        b.act(style.act)
        cin = hidden
    classify(b, cin)


def basic(b: Builder, style: Style, cout: int, stride: int) -> None:
    skip = _shortcut(b, cout, stride)
    b.conv(_width(b, style, cout), 3, stride)
    b.act(style.act)
    b.conv(cout, 3)
    _join(b, style, skip)


def bottleneck(b: Builder, style: Style, cout: int, stride: int) -> None:
    out = min(4 * cout, 2048) if stride == 2 else cout
    skip = _shortcut(b, out, stride)
    inner = _width(b, style, max(8.0, out / 4))
    b.conv(inner, 1)
    b.act(style.act)
    b.conv(inner, 3, stride)
    b.act(style.act)
    b.conv(out, 1)
    _join(b, style, skip)


def grouped(b: Builder, style: Style, cout: int, stride: int) -> None:
    each = style.per_group if style.step > 1 else max(2, int(style.per_group * b.rng.uniform(0.6, 1.0)))
    groups = max(1, cout // each)
    out = groups * each
    skip = _shortcut(b, out, stride)
    b.conv(out, 1)
    b.act(style.act)
    b.conv(out, 3, stride, groups)
    b.act(style.act)
    if b.rng.random() < style.excite:
        squeeze_excite(b)
    b.conv(out, 1)
    _join(b, style, skip)


def inverted(b: Builder, style: Style, cout: int, stride: int) -> None:
    skip = b.x if stride == 1 and cout == b.c else None
    if style.expand > 1:
        b.conv(_width(b, style, b.c * style.expand), 1)
        b.act(style.act)
    b.conv(b.c, style.kernel, stride, b.c)
    b.act(style.act)
    if b.rng.random() < style.excite:
        squeeze_excite(b)
    b.conv(cout, 1)
    if style.expand == 1:
        b.act(style.act)
    elif skip is not None:
        b.x = b.add("Add", b.x, skip)


def plain(b: Builder, style: Style, cout: int, stride: int) -> None:
    if stride == 2 and b.rng.random() < 0.5:
        pool(b, "MaxPool", 2, 2, 0)
        stride = 1
    b.conv(cout, 3, stride)
    b.act(style.act)


def concatenating(b: Builder, style: Style, cout: int, stride: int) -> None:
    """Branches that meet in a concatenation, as in fire, inception and ghost blocks."""
    if stride == 2:
        pool(b, str(b.rng.choice(["MaxPool", "AveragePool"])), 3, 2, 1)
    squeezed = _width(b, style, max(8.0, cout / 4))
    b.conv(squeezed, 1)
    b.act(style.act)
    root, c = b.x, b.c
    parts, total = [], 0
    for kernel, groups in ((1, 1), (3, 1)) if b.rng.random() < 0.7 else ((1, 1), (3, c)):
        b.x, b.c = root, c
        b.conv(c if groups > 1 else _width(b, style, cout / 2), kernel, 1, groups)
        b.act(style.act)
        parts.append(b.x)
        total += b.c
    b.x, b.c = b.add("Concat", *parts, axis=1), total


def dense(b: Builder, style: Style, cout: int, stride: int) -> None:
    """Layers whose outputs are appended to their inputs, each led by a batch norm of its own."""
    if stride == 2:
        b.conv(_width(b, style, max(8.0, b.c / 2)), 1)
        pool(b, "AveragePool", 2, 2, 0)
    for _ in range(3):
        before, c = b.x, b.c
        stats = [b.constant(c) for _ in range(3)]
        ones = b.literal(np.ones(c, dtype=np.float32))
        b.x = b.add("BatchNormalization", b.x, *stats, ones, epsilon=1e-5)
        b.act("Relu")
        b.conv(_width(b, style, 64.0), 1)
        b.act("Relu")
        b.conv(_width(b, style, 24.0), 3)
        b.x, b.c = b.add("Concat", before, b.x, axis=1), c + b.c


def shuffling(b: Builder, style: Style, cout: int, stride: int) -> None:
    """Half of the channels pass, the other half is worked on, then both are interleaved."""
    if stride == 2 or b.c % 2:
        return inverted(b, style, 2 * max(4, cout // 2), stride)
    half = b.c // 2
    first = b.add("Split", b.x, b.literal(np.array([half, half], dtype=np.int64)), outputs=2, axis=1)
    b.x, b.c = first + "_1", half
    b.conv(half, 1)
    b.act("Relu")
    b.conv(half, 3, 1, half)
    b.conv(half, 1)
    b.act("Relu")
    b.x, b.c = b.add("Concat", first, b.x, axis=1), 2 * half
    shuffle(b)


def _transformer(b: Builder, style: Style) -> None:
    """Patches of the image, then attention and linear layers in turns, then the mean of the tokens."""
    patch = int(b.rng.choice([8, 14, 16, 32], p=[0.1, 0.15, 0.55, 0.2]))
    patch = min(patch, b.h // 2, b.w // 2)  # of a small image as well: no kernel is larger than its input
    c = _width(b, style, float(b.rng.choice([96, 128, 192, 256, 384])))
    weight, bias = b.constant(c, b.c, patch, patch), b.constant(c)
    b.x = b.add("Conv", b.x, weight, bias, kernel_shape=[patch] * 2, strides=[patch] * 2)
    b.macs += c * b.c * (b.h // patch * patch) * (b.w // patch * patch)
    b.c, b.h, b.w = c, b.h // patch, b.w // patch
    n, wide = b.h * b.w, _width(b, style, float(b.rng.choice([2, 3, 4, 4])) * c)
    to_tokens(b)
    act = str(b.rng.choice(["Gelu", "Gelu", "SiLU", "Relu"]))
    b.max_macs *= 3.0  # per multiply-accumulate they are quick
    attention_block(b, n, c)
    while b.fits(2 * wide + 4 * c) and b.floats < MAX_WEIGHTS and len(b.nodes) < 240:
        linear_block(b, n, c, wide, act)
        attention_block(b, n, c)
    layer_norm(b, c)
    b.x = b.add("ReduceMean", b.x, b.literal(np.array([1], dtype=np.int64)), keepdims=0)
    classify(b, c)


def _shortcut(b: Builder, cout: int, stride: int) -> str:
    """Return the tensor to add at the end of a block: the input, or a 1x1 convolution of it."""
    if stride == 1 and cout == b.c:
        return b.x
    x, c, h, w = b.x, b.c, b.h, b.w
    b.conv(cout, 1, stride)
    skip = b.x
    b.x, b.c, b.h, b.w = x, c, h, w
    return skip


def _join(b: Builder, style: Style, skip: str) -> None:
    b.x = b.add("Add", b.x, skip)
    b.act(style.act)


_FAMILIES = (basic, bottleneck, grouped, inverted, plain, concatenating, dense, shuffling)
_SHARES = (0.12, 0.1, 0.14, 0.34, 0.07, 0.1, 0.06, 0.07)
