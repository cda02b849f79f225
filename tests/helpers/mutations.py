"""Graphs that are wrong in one operator: another function or literal, operands swapped, one left out."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx

from dtp_edge.graph.lazy import LazyGraphModule
from dtp_edge.ops.nodes import op_name

aten = torch.ops.aten
Mutation = Callable[[], None]
_UNARY = [
    *(aten.relu.default, aten.sigmoid.default, aten.tanh.default, aten.gelu.default, aten.silu.default),
    *(aten.hardswish.default, aten.hardsigmoid.default, aten.neg.default, aten.abs.default, aten.exp.default),
]
_BINARY = [aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.maximum.default, aten.minimum.default]
_REDUCING = [aten.mean.dim, aten.sum.dim_IntList, aten.amax.default]
_POOLING = [aten.avg_pool2d.default, aten.max_pool2d.default]
_ALIKE = [_UNARY, _BINARY, _REDUCING, _POOLING, [aten.softmax.int, aten.log_softmax.int]]
_NO_NUMBER = {"training", "momentum", "cudnn_enabled", "dropout_p", "p", "dropout", "train", "alpha"}


def copied_graph(module: fx.GraphModule) -> LazyGraphModule:
    """Return a module with a graph of its own over the same tensors."""
    memo = {id(t): t for t in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, memo)  # type: ignore[return-value]


def mutations(graph: fx.Graph, r: random.Random) -> Iterator[tuple[str, Mutation]]:
    """Yield each way to make one operator of `graph` wrong that is known here, with its name."""
    for node in graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        name = op_name(node)
        for alike in _ALIKE:
            if node.target in alike:
                other = r.choice([one for one in alike if one is not node.target])
                yield f"swap {name} for {other} in {node}", lambda n=node, o=other: _swap(n, o)
        for place, value in _literals(node):
            yield f"literal {place} of {node}", lambda n=node, p=place, v=value: _put(n, p, _other(v))
        for pair in _operands(node):
            yield f"operands {pair} of {node}", lambda n=node, p=pair: _exchange(n, p)
        source = _stands_for(node)
        if source is not None:
            yield f"without {node}", lambda n=node, s=source: n.replace_all_uses_with(s)


def _swap(node: fx.Node, other: Any) -> None:
    known = {a.name for a in other._schema.arguments}
    node.args = node.args[: len(other._schema.arguments)]
    node.kwargs = {k: v for k, v in node.kwargs.items() if k in known}
    node.target = other


def _literals(node: fx.Node) -> Iterator[tuple[Any, Any]]:
    """Yield the numbers among the arguments by place: (position, index in its list or None)."""
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
    given = {**dict(enumerate(node.args)), **node.kwargs}
    for place, value in given.items():
        if (names[place] if isinstance(place, int) else place) in _NO_NUMBER:
            continue
        for index, one in enumerate(value) if isinstance(value, list | tuple) else [(None, value)]:
            if isinstance(one, int | float) and not isinstance(one, bool):
                yield (place, index), one


def _other(value: Any) -> Any:
    return value + 1 if isinstance(value, int) else value * 1.7 + 0.3


def _put(node: fx.Node, place: tuple[Any, int | None], value: Any) -> None:
    key, index = place
    held: Any = node.args[key] if isinstance(key, int) else node.kwargs[key]
    if index is not None:
        value = [*held[:index], value, *held[index + 1 :]]
    if isinstance(key, int):
        node.update_arg(key, value)
    else:
        node.update_kwarg(key, value)


def _operands(node: fx.Node) -> Iterator[tuple[Any, int, int]]:
    """Yield pairs of operands of one shape: (None, i, j) among the arguments, (k, i, j) in a list."""
    lists = [(None, node.args), *((k, a) for k, a in enumerate(node.args) if isinstance(a, list | tuple))]
    for key, held in lists:
        places = [i for i, a in enumerate(held) if isinstance(a, fx.Node)]
        for i, j in itertools.pairwise(places):
            if held[i] is not held[j] and _shape(held[i]) == _shape(held[j]):
                yield key, i, j


def _exchange(node: fx.Node, pair: tuple[Any, int, int]) -> None:
    key, i, j = pair
    held = list(node.args if key is None else node.args[key])  # type: ignore[arg-type]
    held[i], held[j] = held[j], held[i]
    node.args = tuple(held) if key is None else (*node.args[:key], held, *node.args[key + 1 :])


def _stands_for(node: fx.Node) -> fx.Node | None:
    """Return the operand that could stand in the place of a node, None where no shape agrees."""
    if len(node.target._schema.returns) != 1:  # type: ignore[union-attr]
        return None
    for one in node.all_input_nodes:
        if one.op != "get_attr" and _shape(one) == _shape(node):
            return one
    return None


def _shape(value: Any) -> Any:
    meta = value.meta.get("val")
    return [str(size) for size in meta.shape] if isinstance(meta, torch.Tensor) else None
