"""What a network is called with, in the order of its forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dtp_edge.graph.calls import in_order
from dtp_edge.graph.leaves import as_tuple

__all__ = ["ExampleInputs", "example_arguments", "in_order"]

ExampleInputs = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]


def example_arguments(model: nn.Module, example_inputs: ExampleInputs) -> tuple[Any, ...]:
    """Return the positional arguments that `example_inputs` stand for; raises what `in_order` does."""
    if isinstance(example_inputs, Mapping):
        return in_order(model, **example_inputs)
    return as_tuple(example_inputs)
