"""Fits that begin alike: up to where two cuts are the same, the fit of one is the fit of the other.

What a fit makes of a node hangs on that node, on what it reads, on the tensors, and on what a layer is fitted
to. One line a node says all of this, so that equal lines are equal work. A fit is left, and taken up by
another, at *stops*: behind a node that alone is read later, parameters and inputs apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, fx

from dtp_edge.ops.nodes import lookup
from dtp_edge.surgery.compaction import Compact
from dtp_edge.surgery.sequels import NORM, sequel_of, takes_up_means, weight_of
from dtp_edge.surgery.walk import Stop

__all__ = ["Lead", "lines_of", "share_behind", "stops_of"]

_BYTES = 2**30  # of all stops that are held


@dataclass
class Lead:
    """A cut that others are near: `lines` of its nodes by name, at which `places` its fit may stop, the
    `stops` that were held there, None before it ran, and what it `made` of the judges.

    Its own fit begins with the last of the stops that are `known` of the lead before.
    """

    cut: Compact
    lines: dict[str, str]
    places: list[str]
    known: list[Stop] = field(default_factory=list)
    stops: list[Stop] | None = None
    made: list[Any] = field(default_factory=list)

    def place(self, lines: Mapping[str, str]) -> str:
        """Name the last stop that a cut with these lines has too; "" where there is none."""
        same = _alike(self.lines, lines)
        return next((name for name in reversed(self.places) if name in same), "")

    def upto(self, lines: Mapping[str, str]) -> list[Stop]:
        """Return the stops that are held, and that a cut with these lines has too."""
        same = _alike(self.lines, lines)
        return [stop for stop in self.stops or () if stop.node in same]

    def hold(self, stop: Stop) -> None:
        """Take in the next stop; where memory is short, every second one goes."""
        held = [*(self.stops or []), stop.copied()]
        while len(held) > 1 and sum(one.nbytes for one in held) > _BYTES:
            held = held[1::2]
        self.stops = held


def _alike(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    """The names of the nodes with which both begin."""
    pairs = zip(one.items(), other.items(), strict=False)
    return {a[0] for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)}


def lines_of(cut: Compact, aim: Callable[[str], str]) -> dict[str, str]:
    """Return what each node of a cut does, as text by its name; `aim` says what a layer is fitted to."""
    module = cut.graph_module
    place = {node: i for i, node in enumerate(module.graph.nodes)}
    digests = {n: _digest(lookup(module, str(n.target))) for n in place if n.op == "get_attr"}
    found = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            continue  # said where it is read: all stand at the begin of the graph
        read = [digests[source] for source in node.all_input_nodes if source in digests]
        line = f"{node.target} {node.args} {node.kwargs} {read}"
        if (name := weight_of(node)) is not None:
            sequel = sequel_of(node, place)
            norm = [] if sequel.norm is None else [digests.get(n) for n in sequel.norm.all_input_nodes]
            line += f" {sequel} {takes_up_means(node)} {norm} {aim(name)} {cut.kept.get(name, {}).get(0)}"
        found[node.name] = line
    return found


def _digest(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    flat = value.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.blake2b(flat.view(torch.uint8).numpy().tobytes(), digest_size=16).hexdigest()
    return f"{digest} {tuple(value.shape)}"


def stops_of(graph: fx.Graph) -> list[str]:
    """Name the nodes behind which nothing else is read later: the last one before each layer.

    One that a norm reads next is no stop: the fit of the layer before it has written to the norm.
    """
    nodes = list(graph.nodes)
    last = {source: place for place, node in enumerate(nodes) for source in node.all_input_nodes}
    live: set[fx.Node] = set()
    found, near = [], None
    for place, node in enumerate(nodes):
        if near is not None and weight_of(node) is not None:
            found.append(near)
            near = None
        if node.op == "call_function":
            live = {one for one in {*live, node} if last.get(one, -1) > place}
            alone = live == {node} and all(user.target is not NORM for user in node.users)
            near = node.name if alone else near
    return found


def share_behind(graph: fx.Graph, place: str) -> float:
    """Return the share of a graph's layers that are behind the node of this name; 1 for ""."""
    begun, layers = place == "", []
    for node in graph.nodes:
        if weight_of(node) is not None:
            layers.append(begun)
        begun = begun or node.name == place
    return sum(layers) / max(1, len(layers))
