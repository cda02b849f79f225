"""GELU in the order of multiplications that ONNX Runtime knows.

torch writes `x * (0.5 * (1 + erf(x / sqrt 2)))`; ONNX Runtime (1.32) makes one kernel of
`(x * (1 + erf(x / sqrt 2))) * 0.5` only, and runs five kernels otherwise. Halving is exact, so both
orders round alike (subnormal numbers apart).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult, PostconditionError

from dtp_edge.onnx.rewriting import Rewrite, array, readers


class Gelu(NamedTuple):
    """The end of a GELU, `last = x * (product = half * total)`."""

    product: ir.Node
    x: ir.Value
    half: ir.Value
    total: ir.Value


class FusableGelu(Rewrite):
    """`x * (half * total)` -> `(x * total) * half`, by the same two nodes."""

    after = ("absorb_orders",)

    def call(self, model: ir.Model) -> PassResult:
        changed = False
        for last in tuple(model.graph):
            found = _gelu(last)
            if found is None:
                continue
            product, x, half, total = found
            if (maker := x.producer()) is not None and _is_later(model.graph, maker, product):
                model.graph.remove(
                    product
                )  # x is another tensor than the one in erf: the product waits for it
                model.graph.insert_before(last, product)
            _read(product, x, total)
            _read(last, product.outputs[0], half)
            changed = True
        return PassResult(model, changed)

    def ensures(self, model: ir.Model) -> None:
        """No GELU is left in the other order."""
        super().ensures(model)
        if any(_gelu(n) is not None for n in model.graph):
            raise PostconditionError("a GELU is left that multiplies by one half first")


def _gelu(last: ir.Node) -> Gelu | None:
    if last.op_type != "Mul":
        return None
    for place, value in enumerate(last.inputs):
        product = value.producer() if value is not None else None
        x = last.inputs[1 - place]
        if value is None or x is None or product is None or product.op_type != "Mul" or readers(value) != 1:
            continue
        for half, total in (product.inputs, product.inputs[::-1]):
            if half is not None and total is not None and _is_half(half) and _is_one_plus_erf(total):
                return Gelu(product, x, half, total)
    return None


def _is_half(value: ir.Value) -> bool:
    found = array(value)
    return found is not None and found.size == 1 and bool(np.all(found == 0.5))


def _is_one_plus_erf(value: ir.Value) -> bool:
    total = value.producer()
    if total is None or total.op_type != "Add":
        return False
    makers = [term.producer() for term in total.inputs if term is not None]
    return any(maker is not None and maker.op_type == "Erf" for maker in makers)


def _read(node: ir.Node, *values: ir.Value) -> None:
    for place, value in enumerate(values):
        node.replace_input_with(place, value)


def _is_later(graph: ir.Graph, one: ir.Node, two: ir.Node) -> bool:
    """Return whether node `one` stands behind node `two`."""
    return next(n for n in graph if n is one or n is two) is two
