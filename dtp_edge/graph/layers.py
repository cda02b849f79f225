"""The network as `cost` sees it: layers whose tensor sizes are functions of the masks.

A `Width` is one distinct labelled dimension (all dimensions with the same labels share it). Its size
under a mask m in [0, 1] is the sum over its indices of the product of the masks of their atoms, so it
is the kept count for hard masks and differentiable in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Layer:
    """One operator of the graph, in execution order.

    `op` is the ATen name without overload ("conv2d", "linear", "add", "batch_norm", "cat", ...),
    `module` the name of the nn.Module that owns it, `attributes` its literal arguments
    (for convolutions always: kernel_size, stride, padding, dilation, groups, transposed).
    """

    name: str
    op: str
    module: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerGraph:
    layers: tuple[Layer, ...]
    tensors: Mapping[str, Tensor]
    widths: tuple[np.ndarray, ...]  # int32 [size, depth] each, see graph.network
    n_atoms: int
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def sizes(self, mask: np.ndarray) -> np.ndarray:
        """Return the size of every width, float64 `[n_widths]`, for a mask `[n_atoms]` in [0, 1]."""
        if not self.widths:
            return np.zeros(0)
        rows, starts = self._rows
        padded = np.append(np.asarray(mask, dtype=np.float64), 1.0)
        return np.add.reduceat(padded[rows].prod(axis=1), starts)

    def sizes_vjp(self, mask: np.ndarray, grad_sizes: np.ndarray) -> np.ndarray:
        """Return d(grad_sizes . sizes)/d mask, float64 `[n_atoms]`."""
        grad = np.zeros(self.n_atoms + 1)
        if not self.widths:
            return grad[:-1]
        rows, starts = self._rows
        padded = np.append(np.asarray(mask, dtype=np.float64), 1.0)
        factors = padded[rows]
        lengths = np.diff(np.append(starts, len(rows)))
        upstream = np.repeat(np.asarray(grad_sizes, dtype=np.float64), lengths)
        for k in range(rows.shape[1]):  # product rule: all factors but the k-th
            others = np.delete(factors, k, axis=1).prod(axis=1)
            np.add.at(grad, rows[:, k], upstream * others)
        return grad[:-1]

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The atoms of all widths one below the other, and where each width starts."""
        depth = max(w.shape[1] for w in self.widths)
        padded = [np.pad(w, ((0, 0), (0, depth - w.shape[1])), constant_values=-1) for w in self.widths]
        return np.concatenate(padded), np.cumsum([0] + [len(w) for w in padded[:-1]])
