"""What kind of work a layer does, from any tool's name for it; and what an ONNX file calls its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from dtp_edge.files import require_regular
from dtp_edge.graph.layers import Layer

_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (  # the first whose word is in a name says its kind
    ("other", ("subgraph",)),
    ("layout", ("convert", "reorder", "quantize", "packing", "formatting", "copynode", "transposenhw")),
    ("conv", ("conv", "dwconv", "igemm")),
    ("linear", ("fullyconnected", "innerproduct", "gemm", "dense", "linear", "matmul", "addmm")),
    ("resize", ("resize", "interp", "upsample")),
    ("norm", ("norm", "mvn")),
    ("softmax", ("softmax",)),
    ("pool", ("pool", "mean", "reduction")),
    (
        "activation",
        ("relu", "clip", "clamp", "sigmoid", "swish", "tanh", "gelu", "silu", "elu", "activation"),
    ),
    ("concat", ("concat", "cat")),
    ("layout", ("transpose", "permute", "split", "slice", "pad", "crop", "shuffle")),
    ("view", ("reshape", "flatten", "squeeze", "view")),
    ("binary", ("add", "sub", "mul", "div", "binaryop", "eltwise", "elementwise")),
)
_SAME = {"relu6": "clip", "clamp": "clip", "clamp_min": "clip", "hardtanh": "clip", "swish": "silu"}
_ALIKE = {
    "relu": ("relu", "relu6", "clip", "clamp", "minmax"),
    "clip": ("clip", "clamp", "relu6", "relun1to1"),
}
OPERATORS = (  # that a name may say of which activation, or sum, it is
    *("relu", "relu6", "sigmoid", "tanh", "gelu", "elu", "silu", "hardswish", "hardsigmoid"),
    *("add", "sub", "mul", "div"),
)
_NODES = 100_000


def kind_of(name: str) -> str:
    """Return the kind of a layer by a name of its operator: "Convolution", "CONV_2D", "conv2d" are one."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    return next((kind for kind, words in _KINDS if any(word in plain for word in words)), "other")


def names_operator(name: str, op: str) -> bool:
    """Return whether a printed operator's name is that of the activation, or of the sum, `op`."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    wanted = _SAME.get(op, op).replace("_", "")
    return any(word in plain for word in _ALIKE.get(wanted, (wanted,)))


def onnx_names(path: Path, layers: Sequence[Layer]) -> dict[str, set[str]]:
    """Return {layer: names of its node and outputs} for a network that was read from `path`.

    The reader keeps the order of nodes: those of one kind are the layers of that kind, one by one, where
    there are as many of both; a kind with other numbers has no names. Raises `InputError`.
    """
    require_regular(path, most_bytes=1 << 31, hint="Name the ONNX file that was profiled.")
    graph = onnx.load(str(path), load_external_data=False).graph
    fixed = {stored.name for stored in graph.initializer}
    nodes: dict[str, list[set[str]]] = {}
    for node in graph.node[:_NODES]:
        read = [name for name in node.input if name]
        if node.op_type == "Constant" or (read and all(name in fixed for name in read)):
            fixed.update(node.output)
        else:
            nodes.setdefault(kind_of(node.op_type), []).append({node.name, *node.output} - {""})
    found: dict[str, set[str]] = {}
    for kind, names in nodes.items():
        same = [layer for layer in layers if kind_of(layer.op) == kind]
        if len(same) == len(names):
            found |= dict(zip((layer.name for layer in same), names, strict=True))
    return found


def spelt(name: str) -> str:
    """Return a name as tools keep it: they differ in slashes, colons and case."""
    return "".join(c if c.isalnum() else "_" for c in name.lower()).strip("_")


def by_name(names: Mapping[str, set[str]]) -> dict[str, str]:
    """Return {name as spelt: layer}; a name that stands for several layers is left out."""
    found: dict[str, str | None] = {}
    for layer, given in names.items():
        for name in given:
            key = spelt(name)
            found[key] = layer if found.get(key, layer) == layer else None
    return {name: layer for name, layer in found.items() if layer is not None}
