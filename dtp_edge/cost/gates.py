"""What goes with a branch: kernels, storages and weights behind a gate, as factors of the terms for them.

A gate is a width of size z in [0, 1], the product of all gates that something runs behind, so that it is one
more factor of every term: what is behind it costs z times as much, and nested gates multiply. With all gates
open the factors are 1 and every cost is what it was; a gate that is exactly 0 is cut from the graph instead
(`NetworkCost`), because the kernels that are left may fuse otherwise.
"""

from __future__ import annotations

from collections.abc import Collection

from dtp_edge.cost.kernels import Kernel
from dtp_edge.cost.terms import Factor
from dtp_edge.graph.layers import Dim, LayerGraph


class Gates:
    """The gate of every kernel and tensor of a graph, None for what always runs."""

    def __init__(self, graph: LayerGraph) -> None:
        self._graph = graph
        self._atoms = {
            layer.gate: _row(graph, layer.gate) for layer in graph.layers if layer.gate is not None
        }
        self._atoms |= {gate.width: _row(graph, gate.width) for gate in graph.gates}
        self._width = {atoms: width for width, atoms in self._atoms.items()}
        self._layer = {layer.name: layer.gate for layer in graph.layers}
        self._readers: dict[str, list[int | None]] = {}
        for layer in graph.layers:
            for name in layer.inputs:
                self._readers.setdefault(name, []).append(layer.gate)
        self._made = {name: layer.gate for layer in graph.layers for name in layer.outputs}
        for gate in graph.gates:  # the sum is there without the branch too: it is then what stays
            self._made |= dict.fromkeys(gate.same, gate.around)

    def widths(self) -> list[int]:
        """Return the numbers of the widths that are gates."""
        return list(self._atoms)

    def of_kernel(self, kernel: Kernel) -> int | None:
        return self._layer.get(kernel.layers[0].name)

    def of_value(self, name: str) -> int | None:
        """Return the gate behind which an activation is there."""
        return self._made.get(name)

    def of_weight(self, name: str) -> int | None:
        """Return the gate that all readers of a parameter are behind."""
        return self._common(self._readers.get(name, ()))

    def _common(self, gates: Collection[int | None]) -> int | None:
        if not gates or None in gates:
            return None
        shared = frozenset.intersection(*(self._atoms[g] for g in gates if g is not None))
        return self._width.get(shared)


def factors(gate: int | None) -> list[Factor]:
    """Return the factor of a gate, none for what always runs."""
    return [] if gate is None else [(Dim(1, gate), 1)]


def _row(graph: LayerGraph, width: int) -> frozenset[int]:
    return frozenset(graph.widths[width][0].tolist())
