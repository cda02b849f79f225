"""A stored graph run once on the shapes of its inputs alone: nothing is computed and nothing allocated.

What fits the schemas can still not fit together, or ask for more memory than there is. Every operator is
asked for the shape of its result (PyTorch's fake tensors), with the sizes bounded before and after.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils import _pytree as pytree

from dtp_edge.archive.recurrent import GATES, recurrent_fault
from dtp_edge.errors import InputError

MOST_ELEMENTS = 2**30  # of one tensor
_MOST_PIECES = 10_000
_LARGEST_SIZE, _LARGEST_POWER = 2**48, 64


class _Misfit(Exception):
    """What a node asks for does not fit together, or is out of all bounds."""


class _Depends(Exception):
    """The shape of a node's result depends on values: what comes after it cannot be foretold."""


def rehearse(
    graph: fx.Graph, tensors: Mapping[str, Tensor], inputs: list[Mapping[str, Any]], *, where: str, hint: str
) -> None:
    """Raise `InputError` where `graph` cannot run on inputs of the stored `shape` and `dtype`.

    Not looked at is what comes after an operator whose result depends on values (`nonzero`, `item`).
    """
    found = [leaf for node in graph.nodes if node.op == "placeholder" for leaf in _leaves(node)]
    if len(found) > len(
        inputs
    ):  # an argument that is no tensor is a constant of the graph, which reads no input
        found = [node for node in found if node.users]
    if len(found) != len(inputs):
        raise InputError(f"has {len(found)} inputs, not {len(inputs)}", where=where, hint=hint)
    opened = {node for leaf in found for node in _above(leaf)}
    shapes = [[int(size) for size in x["shape"]] for x in inputs]  # a schema takes 3.0 for a whole number
    if any(math.prod(shape) > MOST_ELEMENTS for shape in shapes):
        what = f"has an input of more than {MOST_ELEMENTS} values"
        raise InputError(what, where=where, hint=hint)
    with FakeTensorMode() as mode, torch.no_grad():
        made = [
            torch.empty(shape, dtype=getattr(torch, x["dtype"]))
            for shape, x in zip(shapes, inputs, strict=True)
        ]
        held: dict[str, Tensor] = {}
        values = dict(zip(found, made, strict=True))
        for number, node in enumerate(graph.nodes):
            if node.op in ("placeholder", "output") or node in opened or node in values:
                continue
            try:
                if node.op == "get_attr":
                    name = str(node.target)
                    if name not in held:
                        held[name] = mode.from_tensor(tensors[name])
                    values[node] = held[name]
                else:
                    values[node] = _result(node, values)
            except _Depends:
                return
            except Exception as error:  # PyTorch raises whatever it likes at arguments that do not fit
                text = str(error).strip().partition("\n")[0][:200] or type(error).__name__
                raise InputError(
                    f"the network cannot run: {node.target}: {text}", where=f"{where}[{number}]", hint=hint
                ) from error


def _leaves(node: fx.Node) -> list[fx.Node]:
    """Return what an input is taken apart into, in order: itself where it is one tensor."""
    parts = list(node.users)
    if not parts or any(user.target is not operator.getitem or user.args[0] is not node for user in parts):
        return [node]
    order = {n: i for i, n in enumerate(node.graph.nodes)}
    return [leaf for part in sorted(parts, key=order.__getitem__) for leaf in _leaves(part)]


def _above(leaf: fx.Node) -> list[fx.Node]:
    """Return the nested values that a leaf was taken out of."""
    found: list[fx.Node] = []
    while leaf.op != "placeholder":
        leaf = leaf.args[0]  # type: ignore[assignment]
        found.append(leaf)
    return found


def _result(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: values[n])
    _check_pieces(node, args)
    if _name(node) in GATES:
        names = (a.name for a in node.target._schema.arguments)  # type: ignore[union-attr]
        if (
            fault := recurrent_fault(_name(node), {**dict(zip(names, args, strict=False)), **kwargs})
        ) is not None:
            raise _Misfit(fault)
    if not isinstance(node.target, torch._ops.OpOverload):
        _check_sizes(node, args)
    try:
        result = node.target(*args, **kwargs)  # type: ignore[operator]
    except (DynamicOutputShapeException, DataDependentOutputException) as error:
        raise _Depends from error
    for value in pytree.tree_leaves(result):
        if isinstance(value, Tensor) and value.numel() > MOST_ELEMENTS:
            raise _Misfit(f"a tensor of {value.numel()} values; at most {MOST_ELEMENTS} are made")
    return result


def _name(node: fx.Node) -> str:
    return getattr(getattr(node.target, "_schema", None), "name", "").removeprefix("aten::")


def _check_pieces(node: fx.Node, args: tuple[Any, ...]) -> None:
    """Refuse what would be cut into, or walk through, more parts than any network has."""
    name = _name(node)
    x = args[0] if args else None
    if not isinstance(x, Tensor) or x.ndim == 0:
        return
    if name not in ("unbind", "split", "unsafe_split", "chunk", "unsafe_chunk", "tensor_split"):
        return
    given = next((a for a in args[1:2] if type(a) is int), 1)
    cut = max(x.shape) // max(given, 1) if "split" in name and name != "tensor_split" else max(x.shape)
    most = cut if name in ("unbind", "split", "unsafe_split") else min(given, cut)
    if most > _MOST_PIECES or (name == "tensor_split" and given > _MOST_PIECES):
        raise _Misfit(f"a tensor of {list(x.shape)} cut into up to {most} pieces")


def _check_sizes(node: fx.Node, args: tuple[Any, ...]) -> None:
    """Bound Python's own arithmetic, whose numbers have no end."""
    numbers = [a for a in args if isinstance(a, int | float)]
    if any(not abs(a) <= _LARGEST_SIZE for a in numbers):
        raise _Misfit("a size beyond all bounds")
    if getattr(node.target, "__name__", "") == "pow" and any(abs(a) > _LARGEST_POWER for a in numbers[1:]):
        raise _Misfit("a power beyond all bounds")
