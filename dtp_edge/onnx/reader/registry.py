"""Operator name → the function that writes it as torch calls, and what such a function may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from torch import fx

from dtp_edge.errors import UnsupportedError

Writer = Callable[["Context"], "fx.Node | tuple[fx.Node, ...]"]
FIXED = "fixed"  # fx meta key: the value depends on weights alone, not on the network's inputs
_WRITERS: dict[str, Writer] = {}


def op(*names: str) -> Callable[[Writer], Writer]:
    """Register the writer of one or more ONNX operators."""

    def register(writer: Writer) -> Writer:
        for name in names:
            _WRITERS[name] = writer
        return writer

    return register


def writer_of(name: str) -> Writer | None:
    return _WRITERS.get(name)


def supported_operators() -> list[str]:
    return sorted(_WRITERS)


@dataclass
class Context:
    """One ONNX node on its way into the fx graph."""

    node: onnx.NodeProto
    graph: fx.Graph
    values: dict[str, fx.Node]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...] | None]
    free_batch: bool
    attributes: dict[str, Any] = field(default_factory=dict)

    def refuse(self, why: str) -> UnsupportedError:
        name = self.node.name or (self.node.output[0] if self.node.output else "?")
        return UnsupportedError(
            f"{self.node.op_type} {why}",
            where=f"ONNX node {name}",
            hint="Export the network again without it, or give the PyTorch module instead of the file.",
        )

    def has(self, index: int) -> bool:
        return index < len(self.node.input) and self.node.input[index] != ""

    def value(self, index: int) -> fx.Node:
        """The input as a tensor of the graph."""
        return self.values[self.node.input[index]]

    def optional(self, index: int) -> fx.Node | None:
        return self.value(index) if self.has(index) else None

    def constant(self, index: int) -> np.ndarray:
        """The input as a fixed array. Raises UnsupportedError if it is computed at run time."""
        name = self.node.input[index]
        if name not in self.constants:
            raise self.refuse(f"reads its input {index} from a value computed at run time")
        return self.constants[name]

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """A list of integers that older opsets keep in an attribute and newer ones in an input."""
        if self.has(index):
            return [int(v) for v in self.constant(index).reshape(-1)]
        found = self.attributes.get(attribute)
        return None if found is None else [int(v) for v in found]

    def shape(self, index: int) -> tuple[int, ...]:
        found = self.shapes.get(self.node.input[index])
        if found is None:
            raise self.refuse("has an input whose shape is not known")
        return found

    def get(self, name: str, default: Any) -> Any:
        return self.attributes.get(name, default)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        made = self.graph.call_function(function, args, kwargs)
        made.meta[FIXED] = all(node.meta.get(FIXED, False) for node in made.all_input_nodes)
        return made

    def size(self, value: fx.Node, dim: int) -> fx.Node:
        return self.call(torch.ops.aten.sym_size.int, value, dim)

    def symmetric_pads(self, pads: Sequence[int]) -> list[int] | None:
        """ONNX pads [begin..., end...] as torch's one number a dimension, or None if they differ."""
        half = len(pads) // 2
        return list(pads[:half]) if list(pads[:half]) == list(pads[half:]) else None
