"""What a node of ONNX Runtime's profile is in a profile's terms: its kernel key and its features.

The runtime reports tensor shapes only; groups and stride of a convolution follow from them. Blocked
convolutions (op domain nchwc) have plain twins for channel counts that do not fit the blocks (keys end in
`_plain`), and kernels of their own for few input channels (`_stem`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from dtp_edge.measure.node_times import NodeTime, Shape

CONVOLUTIONS = frozenset({"Conv", "FusedConv"})
PRODUCTS = frozenset({"Gemm", "FusedGemm", "MatMul", "FusedMatMul", "TransposeMatMul"})
_KEYS = {
    "Add": "elementwise.add",
    "Sub": "elementwise.add",
    "Mul": "elementwise.mul",
    "Div": "elementwise.mul",
    "Relu": "elementwise.relu",
    "Clip": "elementwise.relu",
    "LeakyRelu": "elementwise.relu",
    "Sigmoid": "elementwise.sigmoid",
    "Tanh": "elementwise.sigmoid",
    "HardSigmoid": "elementwise.hardsigmoid",
    "HardSwish": "elementwise.hardsigmoid",
    "QuickGelu": "elementwise.silu",
    "Gelu": "elementwise.gelu",
    "FastGelu": "elementwise.gelu",
    "MaxPool": "pool.max_pool2d",
    "AveragePool": "pool.avg_pool2d",
    "GlobalAveragePool": "pool.adaptive_avg_pool2d",
    "ReduceMean": "pool.mean",
    "Concat": "layout.cat",
    "Split": "layout.split",
    "Slice": "layout.split",
    "Transpose": "layout.permute",
    "Resize": "resize",
    "Upsample": "resize",
    "LayerNormalization": "norm.layer_norm",
    "SkipLayerNormalization": "norm.layer_norm",
    "BatchNormalization": "norm.batch_norm",
    "Softmax": "softmax",
    "ReorderInput": "reorder_in",
    "ReorderOutput": "reorder_out",
    "Reshape": "view",
    "Flatten": "view",
    "Squeeze": "view",
    "Unsqueeze": "view",
}
STEM_CHANNELS = 16  # fewer input channels than a block: the kernel reads plain data
_HAVE_PLAIN_TWIN = ("pool.max_pool2d", "pool.avg_pool2d", "pool.adaptive_avg_pool2d")
Features = dict[str, float]


def node_features(node: NodeTime) -> tuple[str, Features] | None:
    """Return (kernel key, features) of a node; None for an op that no kernel family covers."""
    if not node.outputs or not node.inputs:
        return None
    if node.op in CONVOLUTIONS and len(node.inputs) > 1 and len(node.inputs[1]) == 4:
        return _convolution(node)
    if node.op in PRODUCTS:
        return _product(node)
    key = _KEYS.get(node.op)
    if key is None:
        return None
    if key in _HAVE_PLAIN_TWIN and not node.blocked:
        family, op = key.split(".")
        key = f"{family}_plain.{op}"
    out = node.outputs[0]
    # a weight among the inputs (a norm's scale) is read once and is no activation
    reads = [s for s in node.inputs if len(s) >= 2 or len(node.inputs) == 1]
    return key, {
        "last": float(out[-1] if out else 1),
        "rank": float(len(out)),
        "in_bytes": 4.0 * sum(_count(s) for s in reads),
        "out_bytes": 4.0 * sum(_count(s) for s in node.outputs),
    }


def weights_of(nodes: Iterable[NodeTime]) -> float:
    """Return the bytes of all matrices and convolution kernels that a network's nodes read."""
    total = 0.0
    for node in nodes:
        found = node_features(node)
        if found is None or not found[0].startswith(("conv", "depthwise", "grouped", "linear")):
            continue
        f = found[1]
        total += 4.0 * f["cin"] * f["cout"] * (f["kh"] * f["kw"] / f["groups"] if "kh" in f else 1.0)
    return total


def columns(rows: Iterable[Features]) -> dict[str, np.ndarray]:
    """Return features as arrays `[n]`."""
    found = list(rows)
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def _convolution(node: NodeTime) -> tuple[str, Features]:
    x, w, out = node.inputs[0], node.inputs[1], node.outputs[0]
    groups = max(1, x[1] // w[1])
    kernel = w[2] * w[3]
    stride = max(1, round(x[2] / out[2]))
    if groups > 1:
        family = "depthwise" if w[1] == 1 else "grouped"
    elif kernel == 1:
        family = "conv1x1"
    else:
        family = "conv3x3" if (w[2], w[3], stride) == (3, 3, 1) else "conv"
    added = 4.0 * _count(node.inputs[3]) if len(node.inputs) > 3 else 0.0
    stem = groups == 1 and x[1] < STEM_CHANNELS
    return family + (("_stem" if stem else "") if node.blocked else "_plain"), {
        "cin": float(x[1]),
        "cout": float(out[1]),
        "groups": float(groups),
        "kh": float(w[2]),
        "kw": float(w[3]),
        "stride": float(stride),
        "in_h": float(x[2]),
        "in_w": float(x[3]),
        "out_h": float(out[2]),
        "out_w": float(out[3]),
        "extra_bytes": added,
    }


def _product(node: NodeTime) -> tuple[str, Features]:
    left, out = node.inputs[0], node.outputs[0]
    both = len(node.inputs) > 1 and len(left) > 2 and len(node.inputs[1]) > 2
    return ("matmul" if both else "linear"), {
        "rows": float(_count(out[:-1])),
        "cin": float(tuple(left)[-1]),
        "cout": float(tuple(out)[-1]),
        "batch": float(_count(out[:-2])) if both else 1.0,
    }


def _count(shape: Shape) -> int:
    return math.prod(shape)
