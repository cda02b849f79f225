"""Operator name → the function that writes it as torch calls, and what such a function may use.

What a function does not ask for, it does not read: an attribute or an input of the node that was never asked
for, and that is not at its default, is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from dtp_edge.errors import UnsupportedError
from dtp_edge.files.found import modules_in
from dtp_edge.onnx.reader.values import Builder, Made, Size, Value

Writer = Callable[["Context"], Made]
_WRITERS: dict[str, Writer] = {}


def op(*names: str) -> Callable[[Writer], Writer]:
    """Register the writer of one or more ONNX operators."""

    def register(writer: Writer) -> Writer:
        for name in names:
            _WRITERS[name] = writer
        return writer

    return register


def writer_of(name: str) -> Writer | None:
    """The function that writes an operator, None for one that is not read."""
    if not _WRITERS:
        _load_families()
    return _WRITERS.get(name)


def supported_operators() -> list[str]:
    """The names of all operators that are read."""
    writer_of("")
    return sorted(_WRITERS)


def _load_families() -> None:
    modules_in("dtp_edge.onnx.reader.ops")


class Context:
    """One ONNX node on its way into the graph."""

    def __init__(self, node: onnx.NodeProto, opset: int, builder: Builder, values: dict[str, Value]) -> None:
        self.node, self.opset, self.builder, self._values = node, opset, builder, values
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self._asked: set[str] = set()
        self._read: set[int] = set()

    @property
    def type(self) -> str:
        return self.node.op_type

    @property
    def free_batch(self) -> bool:
        return self.builder.free_batch

    def refuse(self, why: str) -> UnsupportedError:
        name = self.node.name or next((o for o in self.node.output if o), "?")
        return UnsupportedError(
            f"{self.type} {why}",
            where=f"ONNX node {name}",
            hint="Export the network again without it, or give the PyTorch module instead of the file.",
        )

    def has(self, index: int) -> bool:
        return index < len(self.node.input) and self.node.input[index] != ""

    def count(self) -> int:
        return len(self.node.input)

    def value(self, index: int) -> Value:
        """The input as a tensor."""
        self._read.add(index)
        name = self.node.input[index] if index < len(self.node.input) else ""
        if name not in self._values:
            raise self.refuse(f"reads {name!r}, which is not supported" if name else "lacks an input")
        return self._values[name]

    def optional(self, index: int) -> Value | None:
        return self.value(index) if self.has(index) else None

    def constant(self, index: int) -> np.ndarray:
        """The input as a fixed array. Raises UnsupportedError if it is computed at run time."""
        value = self.value(index)
        if not value.constant:
            raise self.refuse(f"reads its input {index} from a value computed at run time")
        return value.sample.detach().numpy()

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """A list of integers that older opsets keep in an attribute and newer ones in an input."""
        found = self.get(attribute, None)
        if self.has(index):
            return [int(v) for v in self.constant(index).reshape(-1)]
        return None if found is None else [int(v) for v in np.reshape(found, -1)]

    def number(self, index: int, attribute: str) -> float | None:
        """A number that older opsets keep in an attribute and newer ones in an input."""
        found = self.get(attribute, None)
        return float(self.constant(index).reshape(())) if self.has(index) else found

    def shape(self, index: int) -> tuple[int, ...]:
        return self.value(index).shape

    def rank(self, index: int = 0) -> int:
        return len(self.shape(index))

    def get(self, name: str, default: Any) -> Any:
        """An attribute, strings as text."""
        self._asked.add(name)
        found = self._attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else found

    def flag(self, name: str, default: int = 0) -> bool:
        return bool(self.get(name, default))

    def axis(self, default: int, rank: int | None = None) -> int:
        """The attribute `axis`, counted from the front."""
        rank = self.rank() if rank is None else rank
        axis = int(self.get("axis", default))
        if not -rank <= axis < max(rank, 1):
            raise self.refuse(f"has axis {axis}, its input {rank} dimensions")
        return axis % max(rank, 1)

    def only_output(self, why: str) -> None:
        """Refuse outputs beyond the first."""
        if any(self.node.output[1:]):
            raise self.refuse(why)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Value:
        return self.builder.call(function, *args, **kwargs)

    def tensor(self, array: Tensor | np.ndarray | Sequence[Any], like: Value | None = None) -> Value:
        """A constant that the reader makes, of the type of `like`."""
        made = array if isinstance(array, Tensor) else torch.from_numpy(np.asarray(array))
        made = made if like is None else made.to(like.dtype)
        return Value(made, "constant", None, True, False, True)

    def batch(self, value: Value) -> Size | int:
        return self.builder.size(value, 0)

    def check_all_read(self) -> None:
        """Refuse by name what the writer did not ask for."""
        schema = onnx.defs.get_schema(self.type, self.opset, "")
        for name, value in self._attributes.items():
            if name in self._asked:
                continue
            known = schema.attributes.get(name)
            default = None if known is None or not known.default_value.type else known.default_value
            if default is None or onnx.helper.get_attribute_value(default) != value:
                raise self.refuse(f"has an attribute that is not read: {name} = {_short(value)}")
        for index, name in enumerate(self.node.input):
            if name and index not in self._read:
                raise self.refuse(f"has an input that is not read: {name!r}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."
