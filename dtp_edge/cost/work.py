"""How many multiply-accumulates a kernel does, as products of dimensions.

`products` returns one list of (dimension, side) a product; side "in" and "out" mark the channel
dimensions that a device rounds up to its step, "" all others. A convolution does
`prod(weight) * output pixels`, a linear `prod(weight) * rows`, a matrix product `prod(output) * K`,
scaled dot-product attention one for q k^T and one for its product with v, a recurrent layer
`sum prod(2-D weights) * time steps`. Everything else does none, by the usual convention.
"""

from __future__ import annotations

from dtp_edge.cost.kernels import Kernel
from dtp_edge.cost.ops import CONVOLUTIONS
from dtp_edge.graph.layers import Dim, LayerGraph

Product = list[tuple[Dim, str]]


def products(kernel: Kernel, graph: LayerGraph) -> list[Product]:
    """Return the products whose sum is the kernel's MACs at batch 1."""
    first = kernel.layers[0]
    shapes = [graph.tensors[name].shape for name in first.inputs]
    out = graph.tensors[first.outputs[0]].shape
    if kernel.op in CONVOLUTIONS:
        return [_convolution(kernel, shapes, out)]
    if kernel.family == "linear":
        return [_linear(kernel, shapes, out)]
    if kernel.op == "scaled_dot_product_attention":
        tokens = shapes[1][-2]
        return [[*_plain(shapes[0]), (tokens, "")], [*_plain(out), (tokens, "")]]
    if kernel.op == "einsum":
        return _einsum(kernel, shapes)
    if kernel.family == "matmul":
        operands = [s for s in shapes if len(s) >= 2][-2:]
        contracted = operands[0][-1] if operands else shapes[0][-1]
        return [[*_plain(out[:-1]), (out[-1], "out"), (contracted, "in")]]
    if kernel.family == "recurrent":
        steps = _plain(shapes[0][:-1])
        matrices = [s for s in shapes[1:] if len(s) == 2]
        return [[*_plain(matrix), *steps] for matrix in matrices]
    return []


def channels(kernel: Kernel, graph: LayerGraph) -> tuple[Dim, Dim, list[Dim]]:
    """Return (input channels, output channels, output pixels or rows) of a kernel's first layer."""
    first = kernel.layers[0]
    out = graph.tensors[first.outputs[0]].shape
    source = graph.tensors[(kernel.inputs or list(first.inputs))[0]].shape
    one = Dim(1)
    if kernel.family in ("linear", "matmul", "recurrent", "softmax") or len(out) < 3:
        return (source[-1] if source else one), (out[-1] if out else one), list(out[:-1])
    return (source[1] if len(source) > 1 else one), out[1], [out[0], *out[2:]]


def _convolution(kernel: Kernel, shapes: list[tuple[Dim, ...]], out: tuple[Dim, ...]) -> Product:
    weight = shapes[1]
    # a transposed convolution's weight is [in, out / groups, *kernel] and works once an input pixel
    transposed = kernel.family == "conv_transpose"
    sides = ("in", "out") if transposed else ("out", "in")
    if kernel.family == "depthwise":
        sides = ("out", "")
    rank = len(weight) - 2
    over = shapes[0] if transposed else out
    pixels = [*over[: max(len(over) - rank - 1, 0)], *over[-rank:]]
    return [(weight[0], sides[0]), (weight[1], sides[1]), *_plain(weight[2:]), *_plain(pixels)]


def _linear(kernel: Kernel, shapes: list[tuple[Dim, ...]], out: tuple[Dim, ...]) -> Product:
    matrices = [s for s in shapes if len(s) == 2]
    if kernel.op != "addmm" and len(shapes[1]) == 1:  # a vector, not a matrix
        return [(shapes[1][0], "in"), *_plain(out)]
    if kernel.op == "linear":
        outward, inward = shapes[1]
    else:  # addmm, mm, matmul by a parameter: [in, out]
        inward, outward = matrices[-1]
    return [(outward, "out"), (inward, "in"), *_plain(out[:-1])]


def _einsum(kernel: Kernel, shapes: list[tuple[Dim, ...]]) -> list[Product]:
    equation = next((v for v in kernel.attributes.values() if isinstance(v, str) and "->" in v), None)
    sizes: dict[str, Dim] = {}
    if equation is not None:
        subscripts = equation.replace(" ", "").split("->")[0].split(",")
        for letters, shape in zip(subscripts, shapes, strict=False):
            if "." not in letters:
                sizes.update(zip(letters, shape, strict=False))
    if sizes:
        return [[(dim, "") for dim in sizes.values()]]
    # no readable equation: every operand's dimensions count once, an upper bound
    return [[*_plain(shapes[0]), *_plain(shapes[-1][-1:])]]


def _plain(dims: tuple[Dim, ...] | list[Dim]) -> Product:
    return [(dim, "") for dim in dims]
