"""The compact network as a graph module that trains: batch norm and dropout follow its mode.

An exported graph has its training flags written in as literals; a `CompactGraph` reads its own mode instead
(`graph.modes`). What exists in Python only during training (stochastic depth) is not in a graph traced in
eval mode.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.graph import CodeGen
from torch.utils import _pytree as pytree

from dtp_edge.graph.lazy import LazyGraphModule, graph_module_over
from dtp_edge.graph.modes import bind_mode, mode_of

aten = torch.ops.aten


class CompactGraph(LazyGraphModule):
    """A graph of ATen operators with parameters and buffers under the names of the original network."""

    def recompile(self) -> Any:
        bind_mode(self.graph)  # every graph that is put in, every change of it, and every copy come by here
        return super().recompile()

    def __reduce__(self) -> Any:
        with mode_of(self, training=False):  # reading back traces anew, with the flags of this moment
            build, arguments = super().__reduce__()
        return _unpickled, (build, arguments, self.training)


def _unpickled(build: Callable[..., fx.GraphModule], arguments: tuple[Any, ...], mode: bool) -> CompactGraph:
    plain = build(*arguments)
    return CompactGraph(plain, plain.graph, "CompactGraph").train(mode)


def build_graph_module(tensors: Mapping[str, torch.Tensor], graph: fx.Graph) -> CompactGraph:
    """Return the module of `graph` with the tensors that it reads; parameters stay parameters."""
    return graph_module_over(graph, tensors, CompactGraph, "CompactGraph").eval()


def plain_interface(graph: fx.Graph) -> None:
    """Give an exported graph ordinary positional inputs and an ordinary nested output, in place.

    Where an argument is a dict, list or tuple of tensors, the graph takes it apart itself. A graph with other
    classes among its inputs keeps torch.export's interface.
    """
    codegen = graph._codegen
    info = getattr(codegen, "pytree_info", None)
    if info is None:
        return
    args, kwargs = _children(info.in_spec)[:2]
    children = _children(args)
    if not all(_opens(c) for c in children) or kwargs.num_leaves:
        return
    _take_apart(graph, children, info.orig_args)
    output = next(n for n in graph.nodes if n.op == "output")
    flat = pytree.tree_leaves(output.args[0], is_leaf=lambda x: isinstance(x, fx.Node) or x is None)
    if info.out_spec is not None:
        output.args = (_plain(pytree.tree_unflatten(flat, info.out_spec)),)
    graph.set_codegen(CodeGen())


def _children(spec: Any) -> list[Any]:
    return list(spec.children() if callable(getattr(spec, "children", None)) else spec.children_specs)


def _opens(spec: Any) -> bool:
    """Return whether an argument can be taken apart by indices and keys."""
    if spec.is_leaf():
        return True
    plain = spec.type in (list, tuple) or (
        spec.type is dict and all(isinstance(k, str) for k in spec.context)
    )
    return plain and all(_opens(c) for c in _children(spec))


def _take_apart(graph: fx.Graph, arguments: list[Any], names: list[str]) -> None:
    """Put one input in the place of the leaves of each nested argument, in place."""
    found = [node for node in graph.nodes if node.op == "placeholder"]
    begin = found[-1].next if found else next(iter(graph.nodes))
    position = 0

    def open_up(spec: Any, value: fx.Node) -> None:
        nonlocal position
        if spec.is_leaf():
            found[position].replace_all_uses_with(value)
            graph.erase_node(found[position])
            position += 1
            return
        keys = spec.context if spec.type is dict else range(len(_children(spec)))
        for key, child in zip(keys, _children(spec), strict=True):
            open_up(child, graph.call_function(operator.getitem, (value, key)))

    for number, spec in enumerate(arguments):
        if spec.is_leaf():
            position += 1
            continue
        after = found[position] if position < len(found) else begin
        with graph.inserting_before(after):
            name = names[number] if len(names) == len(arguments) else f"input_{number}"
            whole = graph.placeholder(name)
        with graph.inserting_before(begin):
            open_up(spec, whole)


def _plain(value: Any) -> Any:
    """Return nested outputs as dicts, lists and tuples (named tuples and output classes lose their class)."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    if value is None or isinstance(value, (fx.Node, int, float, bool)):
        return value
    return tuple(_plain(v) for v in pytree.tree_leaves(value))
