"""Literals of the graph that are sizes: recomputed from the labels of the node that they describe.

One function a family of operators, in the registry `RULES`. Operators without a literal that depends on a
width (elementwise, matmul, pooling, einsum, ...) need no rule: cutting their inputs is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.errors import REPORT, CheckError
from dtp_edge.surgery.kept import Kept, KeptIndices, dense_shape, scaled_size

aten = torch.ops.aten


@dataclass
class Site:
    """One node under surgery: `old` in the dense graph (with labels), `new` its copy that is edited."""

    old: fx.Node
    new: fx.Node
    kept: KeptIndices
    copies: dict[fx.Node, fx.Node]
    constants: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def graph(self) -> fx.Graph:
        return self.new.graph

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument of the dense node, however it was passed."""
        if len(self.old.args) > position:
            return self.old.args[position]
        return self.old.kwargs.get(name, default)

    def set_arg(self, position: int, name: str, value: Any) -> None:
        if len(self.new.args) > position:
            self.new.update_arg(position, value)
        else:
            self.new.update_kwarg(name, value)

    def new_arg(self, position: int, name: str) -> Any:
        """Return the argument as it stands in the edited graph."""
        return self.new.args[position] if len(self.new.args) > position else self.new.kwargs.get(name)

    def input(self, position: int = 0) -> fx.Node:
        node = self.old.args[position] if len(self.old.args) > position else None
        if not isinstance(node, fx.Node):
            raise self.wrong("has no tensor where one is expected")
        return node

    def wrong(self, what: str) -> CheckError:
        return CheckError(f"surgery: {self.old.target} {what}", where=self.old.name, hint=REPORT)


Rule = Callable[[Site], None]
RULES: dict[Any, Rule] = {}


def rule(*targets: Any) -> Callable[[Rule], Rule]:
    """Register a rule for the operator overloads given."""

    def register(function: Rule) -> Rule:
        for target in targets:
            RULES[target] = function
        return function

    return register


def overloads(*names: str) -> list[Any]:
    """Return all overloads of the named ATen operators that this torch has, those with `out=` excepted."""
    packets = [getattr(aten, n) for n in names if hasattr(aten, n)]
    return [getattr(p, o) for p in packets for o in p.overloads() if "out" not in o]


def _sizes(site: Site, sizes: Sequence[Any], wanted: Sequence[int]) -> list[Any]:
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


@rule(aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.view_copy.default)
@rule(aten.expand.default, aten._reshape_alias.default)
def shape_of_output(site: Site) -> None:
    sizes = site.arg(1, "size")
    wanted = site.kept.shape(site.old)
    if wanted != dense_shape(site.old):
        site.set_arg(1, "size", _sizes(site, sizes, wanted))


@rule(aten.unflatten.int)
def unflatten(site: Site) -> None:
    dim, sizes = site.arg(1, "dim"), site.arg(2, "sizes")
    rank = len(dense_shape(site.input()))
    start = dim % rank
    wanted = site.kept.shape(site.old)[start : start + len(sizes)]
    site.set_arg(2, "sizes", _sizes(site, sizes, wanted))


@rule(*overloads("zeros", "ones", "empty", "full", "rand", "randn"))
def created(site: Site) -> None:
    if site.kept.shape(site.old) != dense_shape(site.old):
        site.set_arg(0, "size", _sizes(site, site.arg(0, "size"), site.kept.shape(site.old)))


@rule(*overloads("new_zeros", "new_ones", "new_empty", "new_full"))
def created_like(site: Site) -> None:
    if site.kept.shape(site.old) != dense_shape(site.old):
        site.set_arg(1, "size", _sizes(site, site.arg(1, "size"), site.kept.shape(site.old)))


@rule(aten.repeat.default, aten.tile.default)
def repeated(site: Site) -> None:
    name = "dims" if site.old.target is aten.tile.default else "repeats"
    repeats = list(site.arg(1, name))
    out, inp = site.kept.shape(site.old), site.kept.shape(site.input())
    if out == dense_shape(site.old) and inp == dense_shape(site.input()):
        return
    current = list(site.new_arg(1, name))
    missing = len(out) - len(repeats)  # tile may list the last dimensions only
    repeats, current = [1] * missing + repeats, [1] * missing + current
    offset = len(out) - len(inp)
    for i, size in enumerate(out):
        source = inp[i - offset] if i >= offset else 1
        if not isinstance(repeats[i], int):
            continue
        if size % source:
            raise site.wrong("repeats a dimension whose copies lost different channels")
        repeats[i] = size // source
    site.set_arg(1, name, [c if isinstance(c, fx.Node) else r for r, c in zip(repeats, current, strict=True)])


@rule(aten.squeeze.default)
def squeeze_all(site: Site) -> None:
    # A width pruned to one must not vanish with the dimensions that were one from the start.
    dims = [d for d, size in enumerate(dense_shape(site.input())) if size == 1]
    site.new.target, site.new.args, site.new.kwargs = aten.squeeze.dims, (site.new.args[0], dims), {}


@rule(aten.squeeze.dim, aten.squeeze.dims)
def squeeze_some(site: Site) -> None:
    shape = dense_shape(site.input())
    dims = site.arg(1, "dim")
    listed = [dims] if isinstance(dims, int) else list(dims)
    ones = [d for d in listed if shape[d] == 1]
    if ones != listed:
        site.new.target, site.new.args, site.new.kwargs = aten.squeeze.dims, (site.new.args[0], ones), {}


@rule(*overloads("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))
def convolution(site: Site) -> None:
    groups = site.arg(6, "groups", 1)
    if groups == 1:
        return
    weight = site.input(1)
    channel = len(dense_shape(site.input())) - len(dense_shape(weight)) + 1
    left = remaining_groups(site, site.input(), channel, groups)
    if remaining_groups(site, site.old, channel, groups) != left:
        raise site.wrong("keeps different groups of its inputs and outputs")
    site.set_arg(6, "groups", left)


def remaining_groups(site: Site, node: fx.Node, dim: int, groups: int) -> int:
    """Return how many of `groups` equal blocks along `dim` still hold channels; all must hold as many."""
    kept: Kept = site.kept.node(node)[dim]
    if kept is None:
        return groups
    counts = np.bincount(kept // (dense_shape(node)[dim] // groups), minlength=groups)
    alive = counts[counts > 0]
    if len(set(alive.tolist())) != 1:
        raise site.wrong(f"in {groups} groups would keep different numbers of channels a group")
    return len(alive)


@rule(aten.group_norm.default)
def group_norm(site: Site) -> None:
    site.set_arg(1, "num_groups", remaining_groups(site, site.input(), 1, site.arg(1, "num_groups")))


@rule(aten.layer_norm.default, *overloads("rms_norm"))
def layer_norm(site: Site) -> None:
    count = len(site.arg(1, "normalized_shape"))
    site.set_arg(1, "normalized_shape", site.kept.shape(site.input())[-count:])


@rule(aten.scaled_dot_product_attention.default)
def attention(site: Site) -> None:
    """The scale stays 1/sqrt(d) of the original head: softmax(q·k / sqrt(d)) is what was trained."""
    query = site.input()
    if site.kept.node(query)[-1] is not None and site.old.kwargs.get("scale") is None:
        site.new.update_kwarg("scale", 1.0 / math.sqrt(dense_shape(query)[-1]))
