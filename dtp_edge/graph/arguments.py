"""What a network is called with, in the order of its forward."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.graph.leaves import as_tuple

__all__ = ["ExampleInputs", "example_arguments", "in_order"]

ExampleInputs = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]


def example_arguments(model: nn.Module, example_inputs: ExampleInputs) -> tuple[Any, ...]:
    """Return the positional arguments that `example_inputs` stand for; raises what `in_order` does."""
    if isinstance(example_inputs, Mapping):
        return in_order(model, **example_inputs)
    return as_tuple(example_inputs)


def in_order(model: nn.Module, /, *inputs: Any, **named: Any) -> tuple[Any, ...]:
    """Return the arguments of one call of `model` in the order of its forward.

    Those before the last one given that were left out get their defaults, as in the call itself. The graph,
    the ONNX file and the compact network take them in this order.

    **Raises:** `InputError` for names that `forward` does not have or lacks, `UnsupportedError` for arguments
    that have no place in the order (keyword-only ones).
    """
    signature = inspect.signature(model.forward)
    try:
        given = signature.bind(*inputs, **named).arguments
    except TypeError as error:
        raise InputError(
            f"do not fit the network: {error}",
            where="example_inputs",
            hint=f"forward takes {signature}.",
        ) from error
    placed = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    loose = [name for name in given if name not in {p.name for p in placed}]
    if loose:
        raise UnsupportedError(
            f"{loose[0]!r} can only be given by keyword, and files take inputs in an order",
            where="example_inputs",
            hint="Wrap the network in a module whose forward names it before any `*`.",
        )
    last = max((i for i, p in enumerate(placed) if p.name in given), default=-1)
    return tuple(given.get(p.name, p.default) for p in placed[: last + 1])
