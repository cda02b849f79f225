"""How many multiply-accumulates a kernel does, as products of dimensions.

`products` returns one list of (dimension, side) a product; side "in" and "out" mark the channel
dimensions that a device rounds up to its step, "" all others. Each operator's specification says its own;
what says nothing does none, by the usual convention.
"""

from __future__ import annotations

from dtp_edge.cost.kernels import Kernel
from dtp_edge.graph.layers import Dim, LayerGraph
from dtp_edge.ops.spec import Work, spec_of

Product = list[tuple[Dim, str]]


def products(kernel: Kernel, graph: LayerGraph) -> list[Product]:
    """Return the products whose sum is the kernel's MACs at batch 1."""
    spec = spec_of(kernel.op)
    if spec is None or spec.macs is None:
        return []
    first = kernel.layers[0]
    shapes = tuple(graph.tensors[name].shape for name in first.inputs)
    out = graph.tensors[first.outputs[0]].shape
    return spec.macs(Work(kernel.op, kernel.family, shapes, out, kernel.attributes))


def channels(kernel: Kernel, graph: LayerGraph) -> tuple[Dim, Dim, list[Dim]]:
    """Return (input channels, output channels, output pixels or rows) of a kernel's first layer."""
    first = kernel.layers[0]
    out = graph.tensors[first.outputs[0]].shape
    source = graph.tensors[(kernel.inputs or list(first.inputs))[0]].shape
    one = Dim(1)
    if kernel.family in ("linear", "matmul", "recurrent", "softmax") or len(out) < 3:
        return (source[-1] if source else one), (out[-1] if out else one), list(out[:-1])
    return (source[1] if len(source) > 1 else one), out[1], [out[0], *out[2:]]
