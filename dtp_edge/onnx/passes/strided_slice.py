"""Every s-th position (`Slice` with steps along positions) becomes a max pool of kernel 1.

The maximum of one value is that value, and both keep floor((n - 1)/s) + 1 = ceil(n/s) positions. It is the
option-A shortcut of CIFAR ResNets; pnnx leaves such a Slice as an operator that ncnn lacks.
"""

from __future__ import annotations

import onnx_ir as ir

from dtp_edge.onnx.rewriting import Maker, NodeRewrite, float_shape, ints, node


class StridedSlice(NodeRewrite):
    """`Slice(x, 0, end, [2], [s])` over whole dimensions -> `MaxPool(x, kernel 1, strides [s, 1])`."""

    op_type = "Slice"
    after = ("absorb_orders",)

    def match(self, node: ir.Node) -> list[int] | None:
        """Return the strides by position of a slice that leaves nothing else out."""
        shape = float_shape(node.inputs[0])
        if shape is None or len(shape) not in (3, 4, 5) or len(node.inputs) < 5:
            return None
        starts, ends, axes, steps = map(ints, node.inputs[1:5])
        if starts is None or ends is None or axes is None or steps is None:
            return None
        strides = [1] * (len(shape) - 2)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            size, place = shape[axis % len(shape)], axis % len(shape)
            if size is None or start != 0 or end < size or step < 1 or (place < 2 and step != 1):
                return None
            if place >= 2:
                strides[place - 2] = step
        return strides if max(strides) > 1 else None

    def build(self, slice_: ir.Node, found: list[int], make: Maker) -> list[ir.Node]:
        kernel = [1] * len(found)
        source, name = slice_.inputs[:1], slice_.name or ""
        return [node("MaxPool", source, [ir.Value()], name, kernel_shape=kernel, strides=found)]
