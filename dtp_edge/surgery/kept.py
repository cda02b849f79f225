"""What survives of every dimension in the graph, read from the labels and one keep vector."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.errors import CheckError
from dtp_edge.graph.network import PrunableNetwork, TensorLabels, kept_indices
from dtp_edge.ops.site import Kept
from dtp_edge.ops.sizes import SIZE_FUNCTIONS, dense_shape, hint


class KeptIndices:
    """Surviving indices and sizes of every node and tensor of `network` under `keep` (bool `[n_atoms]`).

    What lies in a closed branch has the sizes of all its channels here; see `closing` for what goes.
    """

    def __init__(self, network: PrunableNetwork, keep: np.ndarray) -> None:
        self.network = network
        self.keep = network.opened(np.asarray(keep, dtype=bool))
        self._by_array: dict[int, Kept] = {}
        self._symbols: dict[fx.Node, int | None] = {}

    def tensor(self, name: str) -> list[Kept]:
        """Return the surviving indices of each dimension of a parameter, buffer or constant."""
        return self._of(self.network.tensor_labels.get(name, ()), name)

    def node(self, node: fx.Node) -> list[Kept]:
        """Return the surviving indices of each dimension of a node's (single tensor) value."""
        if node.op == "get_attr" and node.target in self.network.tensor_labels:
            return self.tensor(str(node.target))
        found = self._of(self.network.node_labels.get(node.name, ()), node.name)
        return found + [None] * (len(dense_shape(node)) - len(found))

    def shape(self, node: fx.Node) -> list[int]:
        """Return the compact shape of a node's value, at the example batch."""
        pairs = zip(dense_shape(node), self.node(node), strict=True)
        return [size if kept is None else len(kept) for size, kept in pairs]

    def _of(self, labels: TensorLabels | None, name: str) -> list[Kept]:
        return [None if atoms is None else self._one(atoms, name) for atoms in labels or ()]

    def _one(self, atoms: np.ndarray, name: str) -> Kept:
        key = id(atoms)
        if key not in self._by_array:
            kept = kept_indices(atoms, self.keep)
            if len(kept) == 0 and len(atoms) > 0:
                raise CheckError(
                    "pruning would leave a dimension with nothing in it",
                    where=name,
                    hint="Keep at least one channel of every group.",
                )
            self._by_array[key] = None if len(kept) == len(atoms) else kept
        return self._by_array[key]

    def symbol(self, value: Any) -> int | None:
        """Return what a size argument of the graph is worth in the compact network, at the example batch."""
        if not isinstance(value, fx.Node):
            return value
        if value not in self._symbols:
            self._symbols[value] = self._evaluate(value)
        return self._symbols[value]

    def _evaluate(self, node: fx.Node) -> int | None:
        if node.target is torch.ops.aten.sym_size.int:
            return self.shape(node.args[0])[node.args[1]]  # type: ignore[arg-type,index]
        function = SIZE_FUNCTIONS.get(getattr(node.target, "__name__", ""))
        if function is not None and function is node.target and function is not operator.getitem:
            return function(*(self.symbol(a) for a in node.args))
        return hint(node.meta.get("val"))
