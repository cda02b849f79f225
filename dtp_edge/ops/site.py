"""What a size rule sees: a node of the dense graph, its copy that is edited, and what survives around it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import fx

from dtp_edge.errors import REPORT, CheckError
from dtp_edge.ops.nodes import evaluate
from dtp_edge.ops.sizes import dense_shape, scaled_size

aten = torch.ops.aten
Kept = np.ndarray | None  # surviving indices, ascending; None: the whole dimension


class Survivors(Protocol):
    """What is left of every node of the graph."""

    def node(self, node: fx.Node) -> list[Kept]: ...

    def shape(self, node: fx.Node) -> list[int]: ...

    def symbol(self, value: Any) -> int | None: ...


@dataclass
class Site:
    """One node under surgery: `old` in the dense graph (with labels), `new` its copy that is edited."""

    old: fx.Node
    new: fx.Node
    kept: Survivors
    copies: dict[fx.Node, fx.Node]
    constants: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def graph(self) -> fx.Graph:
        return self.new.graph

    def arg(self, name: str, default: Any = None) -> Any:
        """Return an argument of the dense node by its name in the schema, however it was passed."""
        return _argument(self.old, name, default)

    def new_arg(self, name: str) -> Any:
        """Return the argument as it stands in the edited graph."""
        return _argument(self.new, name, None)

    def set_arg(self, name: str, value: Any) -> None:
        position = _positions(self.new.target).get(name)
        if position is not None and len(self.new.args) > position:
            self.new.update_arg(position, value)
        else:
            self.new.update_kwarg(name, value)

    def become(self, target: Any, *args: Any) -> None:
        """Make the edited node a call of another operator."""
        self.new.target, self.new.args, self.new.kwargs = target, args, {}

    def input(self, position: int = 0) -> fx.Node:
        node = self.old.args[position] if len(self.old.args) > position else None
        if not isinstance(node, fx.Node):
            raise self.wrong("has no tensor where one is expected")
        return node

    def dim(self, default: int = 0) -> int:
        """Return the argument `dim`, counted from the front of the first input."""
        return self.arg("dim", default) % len(dense_shape(self.input()))

    def ends(self, dim: int) -> tuple[Kept, Kept]:
        """Return what survives of a dimension in the first input and in the output."""
        return self.kept.node(self.input())[dim], self.kept.node(self.old)[dim]

    def constant_value(self, node: Any) -> np.ndarray | None:
        """Return the numbers of a buffer or constant, None for anything computed from the input."""
        return evaluate(node, node.graph.owning_module) if isinstance(node, fx.Node) else None

    def constant(self, values: np.ndarray) -> fx.Node:
        """Add an int64 buffer to the compact network and return the node that reads it."""
        name = f"_index_{len(self.constants)}"
        self.constants[name] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))
        with self.graph.inserting_before(self.new):
            return self.graph.create_node("get_attr", name, name=name.lstrip("_"))

    def wrong(self, what: str) -> CheckError:
        return CheckError(f"surgery: {self.old.target} {what}", where=self.old.name, hint=REPORT)


@functools.cache
def _positions(target: Any) -> dict[str, int]:
    schema = getattr(target, "_schema", None)
    return {} if schema is None else {a.name: i for i, a in enumerate(schema.arguments)}


def _argument(node: fx.Node, name: str, default: Any) -> Any:
    position = _positions(node.target).get(name)
    if position is not None and len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


# -- literals that are sizes ---------------------------------------------------------------------------
def sizes_of_output(argument: str) -> Any:
    """Return the size rule of an operator whose argument lists the sizes of its output."""

    def resize(site: Site) -> None:
        sizes, wanted = site.arg(argument), site.kept.shape(site.old)
        if wanted != dense_shape(site.old) and isinstance(sizes, (list, tuple)):
            site.set_arg(argument, fitted_sizes(site, sizes, wanted))

    return resize


def fitted_sizes(site: Site, sizes: Sequence[Any], wanted: Sequence[int]) -> list[Any]:
    """Return size arguments (integers, -1 or nodes) that describe the shape `wanted`."""
    fresh = []
    for size, want in zip(sizes, wanted, strict=True):
        if isinstance(size, fx.Node):
            now, node = site.kept.symbol(size), site.copies[size]
            if not now:
                raise site.wrong("has a size that cannot be computed ahead")
            fresh.append(node if now == want else scaled_size(site.graph, site.new, node, now, want))
        else:
            fresh.append(size if size == -1 else want)
    return fresh


def remaining_groups(site: Site, node: fx.Node, dim: int, groups: int) -> int:
    """Return how many of `groups` equal blocks along `dim` still hold channels; all must hold as many."""
    kept = site.kept.node(node)[dim]
    if kept is None:
        return groups
    counts = np.bincount(kept // (dense_shape(node)[dim] // groups), minlength=groups)
    alive = counts[counts > 0]
    if len(set(alive.tolist())) != 1:
        raise site.wrong(f"in {groups} groups would keep a different number of channels in each group")
    return len(alive)


# -- operators that only move positions ----------------------------------------------------------------
def compact_gather(site: Site, source: np.ndarray, before: Kept, after: Kept, size: int) -> np.ndarray:
    """Return for each surviving output position its place in the compact input, -1 for padding.

    `source[p]` is the input position that output position p comes from, -1 for padding.
    """
    wanted = source if after is None else source[after]
    inside = np.arange(size) if before is None else before
    real = wanted >= 0
    place = np.searchsorted(inside, wanted[real]).clip(max=len(inside) - 1)
    if not np.array_equal(inside[place], wanted[real]):
        raise site.wrong("keeps a position whose source is removed")
    result = np.full(len(wanted), -1)
    result[real] = place
    return result


def become_index_select(site: Site, dim: int, index: np.ndarray) -> None:
    site.become(aten.index_select.default, site.new.args[0], dim, site.constant(index))


def index_after(site: Site, node: fx.Node, dim: int, index: np.ndarray) -> fx.Node:
    """Put an index_select behind `node`, for all who read it."""
    values = site.constant(index)
    with site.graph.inserting_after(node):
        chosen = site.graph.call_function(aten.index_select.default, (node, dim, values))
    node.replace_all_uses_with(chosen, delete_user_cb=lambda user: user is not chosen)
    return chosen


def indices_after(site: Site, moves: Sequence[tuple[int, np.ndarray]]) -> None:
    """Put an index_select a dimension behind the edited node."""
    last = site.new
    for dim, place in moves:
        last = index_after(site, last, dim, place)
