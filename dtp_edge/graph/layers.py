"""The network as `cost` sees it: layers whose tensor sizes are functions of the masks.

A `Width` is one distinct labelled dimension (all dimensions with the same labels share it). Its size
under a mask m in [0, 1] is the sum over its indices of the product of the masks of their atoms, so it
is the kept count for hard masks and differentiable in between.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Dim:
    """One dimension at batch 1: `size` in the dense network; pruned, `scale * sizes[width]` if not None."""

    size: int
    width: int | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Tensor:
    """`role` is "input", "activation", "parameter", "buffer" or "constant"; `dtype` as numpy names it."""

    name: str
    shape: tuple[Dim, ...]
    role: str
    dtype: str = "float32"

    @property
    def dense_values(self) -> int:
        """How many values it has in the dense network."""
        return math.prod(dim.size for dim in self.shape)


@dataclass(frozen=True)
class Layer:
    """One operator of the graph, in execution order.

    `op` is the ATen name without overload ("conv2d", "linear", "add", "batch_norm", "cat", ...),
    `module` the name of the nn.Module that owns it, `attributes` its literal arguments
    (for convolutions always: kernel_size, stride, padding, dilation, groups, transposed).
    `gate`: for a layer that goes with a branch, the Width index whose size is the product of the gates that
    it runs behind.
    """

    name: str
    op: str
    module: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)
    gate: int | None = None


@dataclass(frozen=True)
class Gate:
    """The gate of one branch: `width` is the Width index of its product with the gates around it.

    `around` is that of the gates around it, None at the top. Closed, the layers `gone` do not run, and the
    tensors in `same` are others under another name.
    """

    name: str
    width: int
    around: int | None
    gone: frozenset[str]
    same: Mapping[str, str]


@dataclass(frozen=True)
class LayerGraph:
    layers: tuple[Layer, ...]
    tensors: Mapping[str, Tensor]
    widths: tuple[np.ndarray, ...]  # int32 [size, depth] each, see graph.network
    n_atoms: int
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()

    def closed(self, sizes: np.ndarray) -> frozenset[int]:
        """Return the gates that are 0 at these sizes."""
        return frozenset(i for i, gate in enumerate(self.gates) if sizes[gate.width] == 0)

    def without(self, closed: Collection[int]) -> LayerGraph:
        """Return the graph without the branches of these gates; widths and their numbers stay."""
        gone = frozenset[str]().union(*(self.gates[i].gone for i in closed))
        same = {old: new for i in closed for old, new in self.gates[i].same.items()}

        def now(name: str) -> str:
            while name in same:
                name = same[name]
            return name

        outputs = tuple(map(now, self.outputs))
        before = {n for layer in self.layers for n in layer.inputs} | {*self.outputs}
        read, left = {*outputs}, []
        for layer in reversed(self.layers):  # what only closed branches read goes with them
            idle = before.intersection(layer.outputs) and read.isdisjoint(layer.outputs)
            if layer.name not in gone and not idle:
                inputs = tuple(dict.fromkeys(map(now, layer.inputs)))
                left.append(layer if inputs == layer.inputs else replace(layer, inputs=inputs))
                read.update(left[-1].inputs)
        layers = tuple(reversed(left))
        dead = before.union(*(layer.outputs for layer in self.layers)) - {*self.inputs, *read}
        dead -= {n for layer in layers for n in layer.outputs}
        return replace(
            self,
            layers=layers,
            tensors={name: t for name, t in self.tensors.items() if name not in dead},
            outputs=outputs,
            gates=tuple(g for i, g in enumerate(self.gates) if i not in set(closed)),
        )

    def sizes(self, mask: np.ndarray) -> np.ndarray:
        """Return the size of every width, float64 `[n_widths]`, for a mask `[n_atoms]` in [0, 1]."""
        if not self.widths:
            return np.zeros(0)
        rows, starts = self._rows
        padded = np.append(np.asarray(mask, dtype=np.float64), 1.0)
        return np.add.reduceat(padded[rows].prod(axis=0), starts)

    def sizes_vjp(self, mask: np.ndarray, grad_sizes: np.ndarray) -> np.ndarray:
        """Return d(grad_sizes . sizes)/d mask, float64 `[n_atoms]`."""
        grad = np.zeros(self.n_atoms + 1)
        if not self.widths:
            return grad[:-1]
        rows, starts = self._rows
        padded = np.append(np.asarray(mask, dtype=np.float64), 1.0)
        factors = padded[rows]
        lengths = np.diff(np.append(starts, rows.shape[1]))
        upstream = np.repeat(np.asarray(grad_sizes, dtype=np.float64), lengths)
        for k, row in enumerate(rows):  # product rule: all factors but the k-th
            others = np.delete(factors, k, axis=0).prod(axis=0)
            np.add.at(grad, row, upstream * others)
        return grad[:-1]

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The atoms of all widths side by side, `[depth, sum of sizes]`, and where each width starts."""
        depth = max(w.shape[1] for w in self.widths)
        padded = [np.pad(w, ((0, 0), (0, depth - w.shape[1])), constant_values=-1) for w in self.widths]
        return np.ascontiguousarray(np.concatenate(padded).T), np.cumsum([0] + [len(w) for w in padded[:-1]])
