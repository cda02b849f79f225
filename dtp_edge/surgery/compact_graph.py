"""The compact network as a graph module that trains: batch norm and dropout follow its mode.

An exported graph has its training flags written in as literals; a `CompactGraph` reads its own mode instead
(`graph.modes`). What exists in Python only during training (stochastic depth) is not in a graph traced in
eval mode.
"""

from __future__ import annotations

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

    A graph whose inputs are nested (a list of tensors as one argument) keeps torch.export's interface.
    """
    codegen = graph._codegen
    info = getattr(codegen, "pytree_info", None)
    if info is None:
        return
    spec = info.in_spec
    args, kwargs = (spec.children() if callable(getattr(spec, "children", None)) else spec.children_specs)[:2]
    children = list(args.children() if callable(getattr(args, "children", None)) else args.children_specs)
    if not all(c.is_leaf() for c in children) or kwargs.num_leaves:
        return
    output = next(n for n in graph.nodes if n.op == "output")
    flat = pytree.tree_leaves(output.args[0], is_leaf=lambda x: isinstance(x, fx.Node) or x is None)
    if info.out_spec is not None:
        output.args = (_plain(pytree.tree_unflatten(flat, info.out_spec)),)
    graph.set_codegen(CodeGen())


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
