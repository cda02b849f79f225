"""Two max pools of kernel 1 in a row become one.

A slice of rows and one of columns are two pools after `strided_slice`; one reads and writes the tensor once.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult, PostconditionError

from dtp_edge.onnx.rewriting import Rewrite, node, readers


class MergedStrides(Rewrite):
    """`MaxPool(MaxPool(x, kernel 1, strides a), kernel 1, strides b)` -> one with strides a * b."""

    after = ("strided_slice",)

    def call(self, model: ir.Model) -> PassResult:
        found = False
        for second in tuple(model.graph):
            first = _before(second)
            if first is None:
                continue
            strides = [a * b for a, b in zip(_strides(first), _strides(second), strict=True)]
            kernel, name = [1] * len(strides), second.name or ""
            new = node("MaxPool", first.inputs[:1], [ir.Value()], name, kernel_shape=kernel, strides=strides)
            ir.convenience.replace_nodes_and_values(
                model.graph, second, [second, first], [new], second.outputs, new.outputs
            )
            found = True
        return PassResult(model, found)

    def ensures(self, model: ir.Model) -> None:
        """No two strides stand in a row where nobody else reads what is between them."""
        super().ensures(model)
        if any(_before(n) is not None for n in model.graph):
            raise PostconditionError("two strides in a row are left")


def _before(second: ir.Node) -> ir.Node | None:
    """Return the stride that only this one reads."""
    between = second.inputs[0] if _is_stride(second) else None
    first = between.producer() if between is not None else None
    return first if between is not None and _is_stride(first) and readers(between) == 1 else None


def _is_stride(node: ir.Node | None) -> bool:
    if node is None or node.op_type != "MaxPool" or set(node.attributes) != {"kernel_shape", "strides"}:
        return False
    return set(node.attributes.get_ints("kernel_shape") or ()) == {1}


def _strides(node: ir.Node) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints("strides") or ())
