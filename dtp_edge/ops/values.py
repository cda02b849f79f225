"""What a rule sees: the labels of a node's inputs, and the means to state what the op does to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.ops.labels import Atoms, Rows, stack_rows, tidy
from dtp_edge.ops.nodes import evaluate, lookup, op_name, owner
from dtp_edge.ops.refusal import Code, NotCovered, Refusal

Arguments = dict[str, Any]  # of a node, by the names of the operator's schema; fx nodes are still nodes


class _Unset:
    """The label of a parameter's dimension that no op has read yet."""

    def __repr__(self) -> str:
        return "unset"


UNSET = _Unset()


@dataclass
class Value:
    """A tensor of the graph: concrete sizes (at the traced batch) and one label array a dimension.

    `source` is the name of the parameter or buffer that the tensor is, None for activations.
    `fixed[d]` tells that the size of dimension d depends on the batch.
    """

    shape: tuple[int, ...]
    labels: list[Any]
    source: str | None = None
    fixed: tuple[bool, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shape)


def values_of(out: Any) -> list[Value]:
    """Return the tensors of an output, which is one or a list; what is no tensor is left out."""
    return [value for value in (out if isinstance(out, list) else [out]) if isinstance(value, Value)]


@dataclass
class Origin:
    """Who made atoms: the owning module, the node or parameter, and the kind of group they make."""

    module: str
    name: str
    kind: str
    repeat: int = 1  # channels of the making layer for each atom (the groups of a grouped convolution)


@dataclass
class Site:
    """A mask that a contraction or a statistic needs; `tensor` for parameters, `node` for activations."""

    kind: str  # "parameter", "multiply" or "norm"
    target: str
    argument: int
    dim: int
    rows: Rows


@dataclass
class Context:
    """State of one labelling run."""

    atoms: Atoms = field(default_factory=Atoms)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    origins: list[Origin] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    roles: list[tuple[Rows, str, str]] = field(default_factory=list)
    activations: set[fx.Node] = field(default_factory=set)  # the nodes that depend on an input
    node: fx.Node = None  # type: ignore[assignment]
    graph_module: fx.GraphModule | None = None
    _constants: dict[fx.Node, np.ndarray | None] = field(default_factory=dict)

    # -- reading -------------------------------------------------------------------------------
    def value(self, argument: Any) -> Value:
        """Return the value of an fx node; a Python number is a tensor without dimensions."""
        if not isinstance(argument, fx.Node):
            return Value((), [])
        found = self.values.get(argument)
        if not isinstance(found, Value):
            raise NotCovered("an argument that is not a single tensor")
        return found

    def number(self, argument: Any, what: str = "a number") -> int:
        """Return an integer argument; a size that is computed when the network runs is not covered."""
        if isinstance(argument, bool) or not isinstance(argument, int):
            raise NotCovered(f"{what} that is not a fixed whole number")
        return argument

    def dim(self, argument: Any, rank: int) -> int:
        """Return a dimension, counted from the front; of a tensor without dimensions there is none."""
        if not rank:
            raise NotCovered("a tensor without dimensions")
        return self.number(argument, "a dimension") % rank

    def read(self, value: Value, dim: int) -> Rows | None:
        """Return the labels of a dimension; a parameter's untouched dimension gets fresh atoms."""
        rows = value.labels[dim]
        if rows is UNSET:
            name = value.source or str(self.node)
            rows = self.fresh(value.shape[dim], "constants" if self._constant(value) else "channels", name)
            value.labels[dim] = rows
        return rows

    def _constant(self, value: Value) -> bool:
        """Return whether a value is a buffer or a filling: it may follow channels, but makes none."""
        if self.graph_module is None:
            return False
        return value.source is None or not isinstance(
            lookup(self.graph_module, value.source), torch.nn.Parameter
        )

    def made_by_nobody(self, rows: Rows | None) -> bool:
        """Return whether only buffers and fillings hold these labels: no layer makes them."""
        atoms = None if rows is None else rows[rows >= 0]
        if atoms is None or not len(atoms):
            return False
        return all(self.origins[i].kind == "constants" for i in np.unique(self.atoms.origins(atoms)))

    def fresh(self, size: int, kind: str, name: str | None = None, repeat: int = 1) -> Rows:
        """Return `[size, 1]` new atoms owned by the module of the current node."""
        self.origins.append(Origin(owner(self.node), name or str(self.node), kind, repeat))
        return self.atoms.fresh(size, len(self.origins) - 1)

    def constant(self, argument: Any) -> np.ndarray | None:
        """Return the numbers of a buffer or constant that the graph reads, None for anything computed."""
        if not isinstance(argument, fx.Node):
            return None
        if argument not in self._constants:
            self._constants[argument] = evaluate(argument, self.graph_module)
        return self._constants[argument]

    def held(self, argument: Any) -> bool:
        """Return whether a node depends on no input: a parameter, a buffer, or what is computed from them."""
        return argument not in self.activations

    def boolean(self, argument: fx.Node) -> bool:
        """Return whether a node holds booleans, or may do."""
        val = argument.meta.get("val")
        if val is None and argument.op == "get_attr":
            val = lookup(self.graph_module, str(argument.target))
        return val is None or val.dtype in (torch.bool, torch.uint8)

    # -- stating -------------------------------------------------------------------------------
    def bind(self, value: Value, dim: int, rows: Rows | None) -> None:
        """State that a dimension has these labels: assign if it has none yet, else equate."""
        if value.labels[dim] is UNSET:
            value.labels[dim] = rows
        else:
            self.equate(value.labels[dim], rows)

    def bind_weight(self, argument: Any, dim: int, rows: Rows | None) -> None:
        """State what a dimension of a weight reads; one that reads what stays is no layer left whole."""
        weight = self.value(argument)
        if rows is None and weight.source is None and self.held(argument):
            self.freeze(weight.labels[dim], "reads what stays whole", Code.KERNEL)
        else:
            self.bind(weight, dim, rows)

    def equate(self, left: Rows | None, right: Rows | None) -> None:
        """State that index i of one dimension is index i of another."""
        if left is right:
            return
        if left is None or right is None:
            rows = left if right is None else right
            if rows is not None:
                self.freeze(rows, f"{self.op} ties it to a dimension that cannot be cut", Code.MEETS_WHOLE)
            return
        text = f"{self.op} ties it to an index that must stay"
        self.atoms.equate(left, right, Refusal(Code.MEETS_WHOLE, str(self.node), text))

    def freeze(self, rows: Rows | None, text: str, code: Code = Code.POSITIONS) -> None:
        """State that every index of a dimension stays, at this node, and why."""
        if rows is not None and rows is not UNSET:
            self.atoms.freeze(rows, Refusal(code, str(self.node), text))

    def freeze_value(self, value: Any, text: str, code: Code) -> None:
        """Freeze every dimension of a value, or of every value in a list."""
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Value):
                for dim in range(part.rank):
                    # read first: a parameter that nothing labelled yet is named as what stays
                    self.freeze(self.read(part, dim), text, code)

    def role(self, value: Value, dim: int, role: str) -> None:
        """Note what a dimension is to attention ("heads", "query-key" or "value"), for the group's name."""
        rows = value.labels[dim]
        if isinstance(rows, np.ndarray):
            self.roles.append((rows, role, owner(self.node)))

    def contract(self, value: Value, dim: int, argument: int) -> None:
        """State that the op sums over a dimension of its argument: a mask must act on it here.

        It acts on the parameter itself where the argument is one, else on the activation.
        """
        rows = value.labels[dim]
        if rows is None or rows is UNSET:
            return
        if value.source is not None:
            self.sites.append(Site("parameter", value.source, -1, dim, rows))
        else:
            self.sites.append(Site("multiply", self.node.name, argument, dim, rows))

    def statistics(self, value: Value, dim: int, argument: int = 0) -> None:
        """State that the op takes a mean or variance over a dimension: over kept channels only."""
        rows = value.labels[dim]
        if rows is not None and rows is not UNSET:
            self.sites.append(Site("norm", self.node.name, argument, dim, rows))

    # -- afterwards ----------------------------------------------------------------------------
    def makers(self, chosen: np.ndarray, leaves: Rows) -> list[dict[int, int]]:
        """Return, for each chosen leaf, how many atoms of every origin are united in it or hold it.

        `leaves` are those of every atom, as `Atoms.leaves` returns them.
        """
        slot = np.full(len(leaves), -1, dtype=np.int64)
        slot[chosen] = np.arange(len(chosen))
        n = len(self.origins)
        keys = []
        for k in range(leaves.shape[1]):
            place = slot[leaves[:-1, k]]
            hit = np.flatnonzero(place >= 0)
            keys.append(place[hit] * n + self.atoms.origins(hit))
        found: list[dict[int, int]] = [{} for _ in chosen]
        distinct, counts = np.unique(np.concatenate(keys), return_counts=True)
        for key, times in zip(distinct.tolist(), counts.tolist(), strict=True):
            found[key // n][key % n] = times
        return found

    @property
    def op(self) -> str:
        return op_name(self.node)


def join(parts: list[tuple[Rows | None, int]]) -> Rows | None:
    """Return the labels of a flattened product of dimensions, outermost first."""
    if all(rows is None for rows, _ in parts):
        return None
    total = int(np.prod([size for _, size in parts]))
    columns, inner = [], total
    for rows, size in parts:
        inner //= max(size, 1)
        if rows is not None:
            outer = total // max(size * inner, 1)
            columns.append(np.tile(np.repeat(rows, inner, axis=0), (outer, 1)))
    return columns[0] if len(columns) == 1 else tidy(np.concatenate(columns, axis=1))


def concatenate(parts: list[tuple[Rows | None, int]]) -> Rows | None:
    """Return the labels of concatenated dimensions; parts without labels are always kept."""
    if all(rows is None for rows, _ in parts):
        return None
    return stack_rows(
        [np.full((size, 1), -1, dtype=np.int32) if rows is None else rows for rows, size in parts]
    )
