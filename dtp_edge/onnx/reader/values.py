"""The network while it is read: values that are known already, values computed at run time, and the graph.

A constant holds its numbers, a run-time value only a tensor on the meta device. So shapes and types are
exact, what depends on shapes alone is folded by the very functions that the network will run, and nothing
large is computed: every result is bounded before it is made.
"""

from __future__ import annotations

import dataclasses
import keyword
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from dtp_edge.errors import UnsupportedError

MAX_ELEMENTS = 2**28  # of one value: a GiB of float32


@dataclasses.dataclass(eq=False)
class Value:
    """One tensor of the file; `sample` is the value itself where `constant`, else its shape and type."""

    sample: Tensor
    name: str
    node: fx.Node | None = None
    constant: bool = False
    weight: bool = False  # comes from numbers that the file stores: it trains if it is floating-point
    fixed: bool = False  # does not depend on the network's inputs
    tied: bool = False  # read by several nodes: it stays one parameter
    buffer: bool = False  # a statistic, which no optimizer may touch

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sample.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.sample.dtype


@dataclasses.dataclass(eq=False)
class Size:
    """The size of a dimension at run time: 1 while reading, whatever the batch is when it runs."""

    node: fx.Node
    now: int


Made = Value | tuple[Value, ...]


class Builder:
    """The fx graph under construction and the module that its constants hang from."""

    def __init__(self, *, free_batch: bool) -> None:
        self.free_batch = free_batch
        self.index_bound: int | None = None  # every table that is looked up at run time has so many
        self.compared: list[int] = []  # whole numbers that run-time values are compared with
        self.root = fx.GraphModule(nn.Module(), fx.Graph())
        self.graph = fx.Graph(self.root)

    def input(self, name: str, example: Tensor, taken: set[str]) -> Value:
        """Add an input of the network; its argument is called like the file's input where Python can."""
        text = identifier(name)
        while text in taken or text in ("self", "torch"):
            text += "_"
        taken.add(text)
        value = Value(example.to("meta"), name, self.graph.placeholder(text))
        narrow = example.dtype in (torch.float16, torch.bfloat16)
        return self.call(torch.Tensor.to, value, torch.float32) if narrow else value

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Write one call of a torch function, or compute it now where all that it reads is known.

        Returns a `Value`, or a tuple of them where the function returns several tensors.
        """
        used = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Value | Size)]
        shapes = function(*_each(args, _shape_only), **_each(kwargs, _shape_only))
        _bounded(shapes)
        weight = any(v.weight for v in used if isinstance(v, Value))
        fixed = all(isinstance(v, Value) and v.fixed for v in used)
        name = next((v.name for v in used if isinstance(v, Value) and v.weight), "constant")
        if all(isinstance(v, Value) and v.constant and not v.tied for v in used):
            found = function(*_each(args, _now), **_each(kwargs, _now))
            return _wrap(found, lambda t, _i: Value(t, name, None, True, weight, True))
        node = self.graph.call_function(function, _each(args, self.place), _each(kwargs, self.place))
        several = isinstance(shapes, tuple | list)

        def made(sample: Tensor, index: int) -> Value:
            part = self.graph.call_function(operator.getitem, (node, index)) if several else node
            return Value(sample.to("meta"), name, part, weight=weight, fixed=fixed)

        return _wrap(shapes, made)

    def looked_up(self, size: int) -> None:
        """Note that a table of `size` entries is read at numbers that are computed at run time."""
        self.index_bound = size if self.index_bound is None else min(self.index_bound, size)

    def size(self, value: Value, dim: int) -> Size | int:
        """The size of a dimension when the network runs."""
        if value.constant:
            return value.shape[dim]
        return Size(
            self.graph.call_function(torch.ops.aten.sym_size.int, (value.node, dim)), value.shape[dim]
        )

    def place(self, item: Any) -> Any:
        """Return the graph's node of a value; a constant is hung from the module at its first use."""
        if isinstance(item, Size):
            return item.node
        if not isinstance(item, Value):
            return item
        if item.node is None:
            infinite = item.sample.isinf() if item.sample.is_floating_point() else None
            if infinite is not None and infinite.any():
                item.node = self._with_infinities(item, infinite)
            else:
                item.node = self.graph.get_attr(self._hang(item))
        return item.node

    def _with_infinities(self, value: Value, infinite: Tensor) -> fx.Node:
        """Infinity is written where it stands (masks, starts of maxima): no weight may hold it."""
        finite = dataclasses.replace(value, sample=value.sample.masked_fill(infinite, 0.0))
        node = self.graph.get_attr(self._hang(finite))
        for limit in (float("inf"), float("-inf")):
            here = value.sample == limit
            if here.any():
                mask = self.graph.get_attr(self._hang(Value(here, f"{value.name}_infinite")))
                node = self.graph.call_function(torch.masked_fill, (node, mask, limit))
        return node

    def _hang(self, value: Value) -> str:
        """Hang a weight under its own dotted name, so that groups and reports speak the file's names."""
        *path, leaf = [identifier(part) for part in value.name.split(".") if part] or ["weight"]
        owner: nn.Module = self.root
        names: list[str] = []
        for part in path:
            while hasattr(owner, part) and part not in owner._modules:
                part += "_"
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = owner._modules[part]  # pyright: ignore[reportAssignmentType]
            names.append(part)
        while hasattr(owner, leaf):
            leaf += "_"
        tensor = value.sample.detach().clone().contiguous()
        if value.weight and tensor.is_floating_point() and not value.buffer:
            owner.register_parameter(leaf, nn.Parameter(tensor))
        else:
            owner.register_buffer(leaf, tensor)
        return ".".join([*names, leaf])

    def finish(self, outputs: list[Value]) -> fx.GraphModule:
        """Return the module whose forward gives `outputs`, one tensor or a tuple."""
        nodes = tuple(self.place(v) for v in outputs)
        self.graph.output(nodes[0] if len(nodes) == 1 else nodes)
        self.graph.eliminate_dead_code()
        module = fx.GraphModule(self.root, self.graph)
        module.delete_all_unused_submodules()
        return module


def identifier(name: str) -> str:
    """A name that Python can use as an attribute or argument."""
    text = "".join(ch if ch.isascii() and (ch.isalnum() or ch == "_") else "_" for ch in name)
    text = text if text and not text[0].isdigit() else f"_{text}"
    return f"{text}_" if keyword.iskeyword(text) else text


def bounded(shape: Any, what: str = "a value") -> None:
    """Raise `UnsupportedError` for a shape that holds more than `MAX_ELEMENTS`."""
    count = 1
    for size in shape:
        count *= int(size)
    if count > MAX_ELEMENTS:
        raise UnsupportedError(
            f"{what} would hold {count:,} numbers, {list(shape)}; at most {MAX_ELEMENTS:,} are read",
            hint="No device that this tool prunes for could hold it: check the sizes in the file.",
        )


def _bounded(made: Any) -> None:
    for tensor in pytree.tree_leaves(made):
        if isinstance(tensor, Tensor):
            bounded(tensor.shape)


def _each(tree: Any, change: Callable[[Any], Any]) -> Any:
    return pytree.tree_map(change, tree, is_leaf=lambda item: isinstance(item, Value | Size))


def _shape_only(item: Any) -> Any:
    if isinstance(item, Value):
        return item.sample.to("meta")
    return item.now if isinstance(item, Size) else item


def _now(item: Any) -> Any:
    return item.sample if isinstance(item, Value) else item


def _wrap(made: Any, one: Callable[[Tensor, int], Value]) -> Made:
    if isinstance(made, tuple | list):
        return tuple(one(part, i) for i, part in enumerate(made))
    return one(made, 0)
