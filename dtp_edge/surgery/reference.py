"""What the layers of the compact network should make: samples of what they make in the dense one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from dtp_edge.graph.branches import Branch
from dtp_edge.surgery.sequels import CONV, chosen, ends, positions, sequel_of, weight_of
from dtp_edge.surgery.walk import Walk

ROWS_PER_INPUT = 24  # patches read per unknown of a neuron, at least
LEAST_ROWS = 8192
_NUMBERS = 2**24  # of one layer that are held: rows by inputs and outputs


class Reference(Walk):
    """Runs the dense graph and keeps every layer's output at a random sample of its positions.

    With an `effort` above 1 so many times more of them are read where memory allows, below 1 fewer.

    `outputs` `[rows, neurons]` by weight, of the neurons that are `kept`; `rows` `[images, positions an
    image]` of every batch. With `streams` also the sum that the layer's output is added to, at the same
    positions: where what comes next is a branch that goes, the sum behind that branch, so that the layer
    makes up for it before anything reads the stream. With `every` all sums are read that some of the
    `branches` ask for, for `narrowed` to choose from.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        tensors: Mapping[str, Tensor],
        layers: Mapping[str, str | None],
        kept: Mapping[str, Mapping[int, list[int]]],
        seed: int,
        *,
        streams: bool = False,
        branches: Sequence[Branch] = (),
        every: bool = False,
        effort: float = 1.0,
    ) -> None:
        super().__init__(module, tensors)
        self.effort = effort
        self.layers, self.kept = layers, kept
        self.generator = torch.Generator().manual_seed(seed)
        self.outputs: dict[str, Tensor] = {}
        self.rows: dict[str, list[Tensor]] = {}
        self.sums: dict[str, Tensor] = {}
        self.norms: dict[str, Tensor] = {}  # of the neurons' weights
        self._own: dict[str, fx.Node] = {}  # where the sum of each layer is read while all branches stay
        self._layers_at: dict[fx.Node, list[fx.Node]] = {}  # where it is read -> the layers whose sum it is
        self._found: dict[tuple[str, fx.Node], Tensor] | None = {} if every else None
        place = {node: i for i, node in enumerate(self.graph.nodes)}
        for node in self.graph.nodes if streams else ():
            if (name := self._fitted(node)) is not None:
                sequel = sequel_of(node, place)
                own = self._own[name] = sequel.add or sequel.norm or node
                for end in all_behind(own, branches) if every else [behind(own, branches)]:
                    if sequel.add is not None or end is not own:
                        self._layers_at.setdefault(end, []).append(node)

    def _fitted(self, node: fx.Node) -> str | None:
        name = weight_of(node)
        return name if name is not None and self.layers.get(name, "absent") is None else None

    def after(self, node: fx.Node) -> None:
        for layer in self._layers_at.get(node, ()):
            shapes = {tuple(v.shape) for v in (*self.arguments(node, 0), self.values[node][0])}
            if len(shapes) == 1 and (name := self._fitted(layer)) is not None:  # nothing is broadcast
                sums = self._sampled(node, name, layer.target is CONV)
                if self._found is None:
                    self.sums[name] = sums
                else:
                    self._found[name, node] = sums
        name = self._fitted(node)
        if name is not None:
            conv, unknowns = node.target is CONV, self.arguments(node, 0)[1][0].numel()
            shapes = [positions(out, conv).shape for out in self.values[node]]
            images = sum(shape[0] for shape in shapes)
            self.rows[name] = [
                self._sample(shape, images, unknowns).to(out.device)
                for shape, out in zip(shapes, self.values[node], strict=True)
            ]
            self.outputs[name] = self._sampled(node, name, conv)
            norms, neurons = self.arguments(node, 0)[1].flatten(1).norm(dim=1), self.kept.get(name, {}).get(0)
            self.norms[name] = norms if neurons is None else norms[neurons]

    def aim(self, name: str, branches: Sequence[Branch]) -> str:
        """Name the node whose sum a layer aims at once `branches` are gone; "" of a layer without one."""
        return behind(self._own[name], branches).name if name in self._own else ""

    def most_bytes(self) -> int:
        """What the outputs and sums of all neurons take at most, in float32, where the effort is not above
        1."""
        layers = [node for node in self.graph.nodes if self._fitted(node)]
        total = 0
        for node in [*layers, *(n for read in self._layers_at.values() for n in read)]:
            neurons, unknowns = self._tensor(str(weight_of(node))).flatten(1).shape
            total += 4 * neurons * int(self.effort * max(LEAST_ROWS, ROWS_PER_INPUT * unknowns))
        return total

    def narrowed(self, kept: Mapping[str, Mapping[int, list[int]]], branches: Sequence[Branch]) -> Reference:
        """Return what was found with all neurons, for those that are kept in one cut without `branches`."""
        found, sums = copy.copy(self), self.sums
        if self._found is not None:
            aims = {name: behind(own, branches) for name, own in self._own.items()}
            sums = {n: self._found[n, end] for n, end in aims.items() if (n, end) in self._found}

        def cut(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            neurons = {name: kept.get(name, {}).get(0) for name in tensors}
            return {n: t if neurons[n] is None else t[..., neurons[n]] for n, t in tensors.items()}

        found.outputs, found.sums, found.norms = cut(self.outputs), cut(sums), cut(self.norms)
        return found

    def _sampled(self, node: fx.Node, name: str, conv: bool) -> Tensor:
        neurons = self.kept.get(name, {}).get(0)
        pairs = zip(self.values[node], self.rows[name], strict=True)
        return torch.cat([chosen(out, conv, rows, neurons) for out, rows in pairs])

    def _sample(self, shape: torch.Size, images: int, unknowns: int) -> Tensor:
        """Positions of a batch's images, `[images, positions an image]`, for outputs of this shape."""
        count, places, neurons = shape
        least = max(LEAST_ROWS, ROWS_PER_INPUT * unknowns)
        rows = int(self.effort * least)
        if self.effort > 1:
            rows = max(least, min(rows, _NUMBERS // (unknowns + neurons)))
        each = min(places, -(-rows // images))
        noise = torch.rand(count, places, generator=self.generator)
        return noise.argsort(1)[:, :each]


def behind(end: fx.Node, branches: Sequence[Branch]) -> fx.Node:
    """Return the last addition that `end` takes the place of once `branches` are gone; `end` where none."""
    nodes = {node.name: node for node in end.graph.nodes} if branches else {}
    stays = {branch.stays: branch for branch in branches}
    while (branch := next((stays[n.name] for n in ends(end) if n.name in stays), None)) is not None:
        end = nodes[branch.addition]
    return end


def all_behind(end: fx.Node, branches: Sequence[Branch]) -> list[fx.Node]:
    """Return what `behind` can be for any of the branches, `end` first."""
    nodes = {node.name: node for node in end.graph.nodes} if branches else {}
    found = [end]
    for at in found:
        names = {node.name for node in ends(at)}
        for branch in branches:
            if branch.stays in names and nodes[branch.addition] not in found:
                found.append(nodes[branch.addition])
    return found
