"""What a runtime folds into the kernel before, from what its profiles show rows of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dtp_edge.cost.kernels import fuses_as, lower
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.printout import PrintedRow, Printout
from dtp_edge.measure.printout_kinds import kind_of, names_operator
from dtp_edge.profiles.profile import Fusion

_COMBINE = ("add", "sub", "mul")
_SPELT = {"silu": "sigmoid", "hardswish": "hardsigmoid"}  # times what it reads


def fusion_of(printouts: Sequence[Printout], networks: Sequence[LayerGraph]) -> Fusion:
    """Return what the runtime folds into the kernel before: what the networks have and few rows show."""
    seen = [_Seen.of(printout, graph) for printout, graph in zip(printouts, networks, strict=True)]
    folded = [
        op
        for op in sorted({op for one in seen for op in one.activations})
        if sum(one.own(op) for one in seen) < sum(one.activations.count(op) for one in seen) / 2
    ]
    behind = [sum(op in folded for op in one.behind_sums) for one in seen]
    shown = [min(many, sum(one.own(op) for op in folded)) for one, many in zip(seen, behind, strict=True)]
    return Fusion(
        norm=True,
        activations=tuple(folded),
        add=sum(one.added for one in seen) < sum(one.sums for one in seen) / 2,
        elementwise_activations=bool(folded) and (sum(shown) < sum(behind) / 2 or not any(behind)),
    )


@dataclass(frozen=True)
class _Seen:
    """One network as its layers are, each by itself, and its rows: the operators of its activations, of those
    right behind a sum or a product of two; how many sums it has, and how many rows show one."""

    rows: tuple[PrintedRow, ...]
    activations: tuple[str, ...]
    behind_sums: tuple[str, ...]
    sums: int
    added: int

    @staticmethod
    def of(printout: Printout, graph: LayerGraph) -> _Seen:
        plain = lower(graph, Fusion(norm=True)).kernels
        maker = {name: kernel for kernel in plain for name in kernel.outputs}
        own = [k for k in plain if fuses_as(k.op) == "activation"]
        behind = [k.op for k in own if k.inputs and getattr(maker.get(k.inputs[0]), "op", "") in _COMBINE]
        sums = sum(k.op == "add" for k in plain)
        others = sum(kind_of(k.op) == "binary" and k.op != "add" for k in plain)
        shown = sum(kind_of(row.type) == "binary" for row in printout.rows) - others
        rows = tuple(row for row in printout.rows if kind_of(row.type) == "activation")
        return _Seen(rows, tuple(k.op for k in own), tuple(behind), sums, min(sums, max(0, shown)))

    def own(self, op: str) -> int:
        """How many of its activations have rows of their own, or of what they are spelled out as."""
        shown = self._shown(op)
        if not shown and op in _SPELT:
            shown = max(0, self._shown(_SPELT[op]) - self.activations.count(_SPELT[op]))
        return min(self.activations.count(op), shown)

    def _shown(self, op: str) -> int:
        return sum(names_operator(row.type, op) for row in self.rows)
