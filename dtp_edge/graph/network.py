"""The result of labelling a network: what can be removed, where it lives, what it is part of.

An *atom* is one removable decision (usually one channel). Atoms are numbered 0..n_atoms-1, group by
group. Every labelled dimension of a tensor carries an integer array of shape `[size, depth]`: index i
of that dimension is kept if and only if every atom in row i is kept; -1 entries are always kept.
Depth is 1 for a plain channel dimension, 2 where an index belongs to a head *and* to an inner
dimension (a flattened `heads x inner` axis), and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import fx, nn

from dtp_edge.graph.branches import Branch, Depth
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.ops.refusal import Code, Refusal

IndexAtoms = np.ndarray  # int32 [size, depth]
TensorLabels = tuple["IndexAtoms | None", ...]  # one entry a dimension; None: nothing prunable there


@dataclass(frozen=True)
class Group:
    """Atoms `start..stop-1`: the alternatives that one decision ranges over.

    `kind` is "channels", "heads", "inner" or "branch" (one atom, a gate: see `branches`). `channels_per_atom`
    is how many channels of the owning layer go when one atom goes (g for a convolution in g groups, which
    loses one offset in each). `members` names every (parameter or buffer, dimension) that is cut with it.
    """

    name: str
    kind: str
    start: int
    stop: int
    channels_per_atom: int = 1
    members: tuple[tuple[str, int], ...] = ()

    @property
    def total(self) -> int:
        """Channels in the dense network."""
        return (self.stop - self.start) * self.channels_per_atom

    @property
    def floor(self) -> int:
        """The fewest atoms that must stay where anything around the group does."""
        return 0 if self.kind == "branch" else 1


@dataclass(frozen=True)
class Frozen:
    """A group or node that is left whole, and why: a code for programs, a node and a text for people."""

    name: str
    refusal: Refusal

    @property
    def code(self) -> Code:
        return self.refusal.code

    @property
    def node(self) -> str:
        """The graph's node that keeps it, "" where none does."""
        return self.refusal.node

    @property
    def text(self) -> str:
        return self.refusal.text

    @property
    def reason(self) -> str:
        """Text and node in one line."""
        return str(self.refusal)


@dataclass(frozen=True)
class ParameterSite:
    """Where a mask acts: `tensor` is multiplied along `dim` by the product of its atoms' masks.

    Sites sit on the consumer side (the input dimension of every weight that reads the channel), where
    a mask is exact for any activation, f(0) != 0 included.
    """

    tensor: str
    dim: int
    atoms: IndexAtoms


@dataclass(frozen=True)
class NodeSite:
    """A mask that must act on an activation or inside a norm, so the traced graph has to run it.

    `kind` is "multiply" (the node's tensor argument number `argument`, counted through lists, is
    multiplied by the mask along `dim` before the node reads it) or "norm" (the node's statistics over
    `dim` are taken over kept channels only).
    """

    node: str
    kind: str
    argument: int
    dim: int
    atoms: IndexAtoms


class _AtFirstUse:
    """A field that may be given as a function without arguments, called when the field is first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            raise AttributeError(self._name)  # tells dataclass that the field has no default
        value = instance.__dict__[self._name]
        if callable(value):
            value = instance.__dict__[self._name] = value()
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self._name] = value


@dataclass
class PrunableNetwork:
    """A traced and labelled network: `graph`'s whole answer, read by every later box.

    `module` is the user's own, never changed. `graph_module` is its ATen graph with the same
    parameter and buffer names (and the same tensors). Without `dynamic_batch` the graph, the costs and the
    files are those of the example inputs' own shapes; else dimension 0 is a batch, priced and exported as 1.
    """

    module: nn.Module
    graph_module: fx.GraphModule
    example_inputs: tuple[Any, ...]
    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    tensor_labels: Mapping[str, TensorLabels]
    node_labels: Mapping[str, TensorLabels]
    parameter_sites: tuple[ParameterSite, ...]
    node_sites: tuple[NodeSite, ...]
    layers: LayerGraph = _AtFirstUse()  # type: ignore[assignment]  # what costs are computed from
    dynamic_batch: bool = True
    depth: Depth = field(default_factory=Depth)
    notes: tuple[str, ...] = ()  # what differs from what the user may expect, for the report's warnings

    @cached_property
    def masking_cache(self) -> dict[Any, Any]:
        """What `graph.masking` makes once a network: indices of its sites, graphs with masks in them."""
        return {}

    @property
    def n_atoms(self) -> int:
        return self.groups[-1].stop if self.groups else 0

    @property
    def branches(self) -> tuple[Branch, ...]:
        """What additions can do without; none where the network was traced without `depth`."""
        return self.depth.branches

    def settled(self, keep: np.ndarray) -> np.ndarray:
        """Return the keep vector with nothing kept in a closed branch: see `branches`."""
        return self.depth.settled(keep, self.groups)

    def opened(self, keep: np.ndarray) -> np.ndarray:
        """Return the keep vector with everything kept in a closed branch but its gate: see `branches`."""
        return self.depth.opened(keep, self.groups)

    def widths(self, keep: np.ndarray) -> dict[str, tuple[int, int]]:
        """Return `{group name: (kept, total)}` in channels, for a boolean keep vector `[n_atoms]`.

        In a closed branch all groups keep 0, and so does its own, which has 1 in all.
        """
        keep = self.settled(keep)
        return {
            g.name: (int(keep[g.start : g.stop].sum()) * g.channels_per_atom, g.total) for g in self.groups
        }


def kept_indices(atoms: IndexAtoms, keep: np.ndarray) -> np.ndarray:
    """Return the indices of a labelled dimension that survive, ascending."""
    alive = np.append(np.asarray(keep, dtype=bool), True)  # -1 addresses the last entry: always kept
    return np.flatnonzero(alive[atoms].all(axis=1))
