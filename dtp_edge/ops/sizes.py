"""Sizes in a traced graph: shapes at the example batch, and the arithmetic on sizes that tracing leaves."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import fx

# Arithmetic that torch.export leaves in a graph for sizes that depend on the batch.
SIZE_FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg),
        *(operator.pow, operator.truediv, operator.getitem),
        *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
    )
} | {
    "sym_max": torch.sym_max,
    "sym_min": torch.sym_min,
    "sym_int": torch.sym_int,
    "sym_float": torch.sym_float,
}


def dense_shape(node: fx.Node) -> list[int]:
    """Return the dense shape of a node's value, symbolic sizes at the example batch; [] if not a tensor."""
    shape = node.meta.get("dense_shape")  # reading symbolic sizes takes long
    if shape is None:
        value = node.meta.get("val")
        shape = tuple(hint(s) for s in value.shape) if isinstance(value, torch.Tensor) else ()
        node.meta["dense_shape"] = shape
    return list(shape)


def hint(size: Any) -> int:
    """Return the value that a symbolic size has for the example inputs."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size


def scaled_size(graph: fx.Graph, before: fx.Node, size: fx.Node, now: int, wanted: int) -> fx.Node:
    """Return a node worth `size * wanted / now`: a symbolic size such as B*heads with fewer heads."""
    ratio = Fraction(wanted, now)
    with graph.inserting_before(before):
        scaled = graph.call_function(operator.mul, (size, ratio.numerator))
        if ratio.denominator > 1:
            scaled = graph.call_function(operator.floordiv, (scaled, ratio.denominator))
    return scaled
