"""Quick fits of many cuts on the same inputs, as `refit` with `streams`, to choose between them.

Cuts that are compared differ in little. Up to the first node at which one differs from the `lead`, its fit is
the lead's own, and is taken up there (see `beginnings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from dtp_edge.graph.branches import Branch
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.surgery.beginnings import Lead, lines_of, share_behind, stops_of
from dtp_edge.surgery.compaction import Compact
from dtp_edge.surgery.in_context import InContext
from dtp_edge.surgery.least_squares import layers_of
from dtp_edge.surgery.reference import Reference
from dtp_edge.surgery.walk import Stop

__all__ = ["QuickFit"]

LESS = 1 / 3  # rows of a quick fit, times those of a plain one
REMEMBERED = 3  # sets of branches whose dense outputs are kept
_BYTES = 2**30  # of the dense outputs and sums
Batch = tuple[Any, ...]


class QuickFit:
    """Fits cuts on `batches`, and returns what they then make of `judges`.

    What the dense network makes is found once for all cuts; where the sums behind all branches do not fit
    into memory, once for all cuts without the same branches.
    """

    def __init__(
        self,
        network: PrunableNetwork,
        batches: list[Batch],
        judges: Sequence[Batch] = (),
        *,
        ridge: float,
        seed: int = 0,
    ) -> None:
        self.network, self.ridge, self.seed = network, ridge, seed
        self.batches, self.judges = batches, list(judges)
        self.dense = dict(network.graph_module.state_dict())
        self.layers = layers_of(network.graph_module.graph, grouped=True)
        self.every = self._prepared(network.branches, every=True).most_bytes() <= _BYTES
        self._references: dict[tuple[str, ...], Reference] = {}
        self._lead: Lead | None = None

    def lead(self, compacted: Compact) -> None:
        """Take up the fits that follow where this cut, which is not fitted yet, begins as they do."""
        lines, before = self._lines(compacted), self._lead
        self._lead = Lead(compacted, lines, stops_of(compacted.graph_module.graph))
        if before is not None and before.stops is not None:
            self._lead.known = before.upto(lines)

    def share(self, compacted: Compact) -> float:
        """Return which part of a whole fit that of a cut, not fitted yet, takes: of its layers."""
        if self._lead is None:
            return 1.0
        place = self._lead.place(self._lines(compacted))
        return share_behind(compacted.graph_module.graph, place)

    @torch.no_grad()
    def __call__(self, compacted: Compact) -> list[Any]:
        """Fit the cut in place, but for layers that are as the lead's; return its outputs for the judges."""
        lead = self._lead
        if lead is None:
            return self._run(compacted, None, None)
        if lead.stops is None:
            lead.stops = list(lead.known)
            lead.made = self._run(lead.cut, next(reversed(lead.known), None), lead)
        lines = self._lines(compacted)
        return (
            lead.made
            if lines == lead.lines
            else self._run(compacted, next(reversed(lead.upto(lines)), None), None)
        )

    def _run(self, compacted: Compact, begin: Stop | None, lead: Lead | None) -> list[Any]:
        found = layers_of(compacted.graph_module.graph, grouped=True)
        layers = {name: reason or self.layers[name] for name, reason in found.items()}
        wanted = self._reference(compacted).narrowed(compacted.kept, compacted.branches)
        fitting = _Fitting(compacted.graph_module, wanted, layers, self.ridge, rectified=0)
        fitting.lead = lead
        return fitting.run([*self.batches, *self.judges], begin)[len(self.batches) :]

    def _lines(self, compacted: Compact) -> dict[str, str]:
        wanted = self._reference(compacted)
        return lines_of(compacted, lambda name: wanted.aim(name, compacted.branches))

    def _reference(self, compacted: Compact) -> Reference:
        branches = self.network.branches if self.every else compacted.branches
        key = tuple(branch.name for branch in branches)
        if key not in self._references:
            found = self._prepared(branches, every=self.every)
            found.run(self.batches)
            self._references = dict([*self._references.items()][-REMEMBERED:]) | {key: found}
        return self._references[key]

    def _prepared(self, branches: Sequence[Branch], *, every: bool) -> Reference:
        context: dict[str, Any] = {"streams": True, "branches": branches, "every": every, "effort": LESS}
        return Reference(self.network.graph_module, self.dense, self.layers, {}, self.seed, **context)


class _Fitting(InContext):
    """Hands what it makes at the lead's stops to the lead."""

    lead: Lead | None = None

    def after(self, node: fx.Node) -> None:
        if self.lead is not None and node.name in self.lead.places:
            self.lead.hold(Stop(node.name, self.values[node]))
