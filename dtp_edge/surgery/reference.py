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
    makes up for it before anything reads the stream.
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
        self._sums: dict[fx.Node, list[fx.Node]] = {}  # where it is read -> the layers whose sum it is
        place = {node: i for i, node in enumerate(self.graph.nodes)}
        for node in self.graph.nodes if streams else ():
            if self._fitted(node):
                sequel = sequel_of(node, place)
                end = behind(sequel.add or sequel.norm or node, branches)
                if sequel.add is not None or end is not (sequel.norm or node):
                    self._sums.setdefault(end, []).append(node)

    def _fitted(self, node: fx.Node) -> str | None:
        name = weight_of(node)
        return name if name is not None and self.layers.get(name, "absent") is None else None

    def after(self, node: fx.Node) -> None:
        for layer in self._sums.get(node, ()):
            shapes = {tuple(v.shape) for v in (*self.arguments(node, 0), self.values[node][0])}
            if len(shapes) == 1 and (name := self._fitted(layer)) is not None:  # nothing is broadcast
                self.sums[name] = self._sampled(node, name, layer.target is CONV)
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

    def narrowed(self, kept: Mapping[str, Mapping[int, list[int]]]) -> Reference:
        """Return what was found with all neurons, for those that are kept in one cut."""
        found = copy.copy(self)

        def cut(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            neurons = {name: kept.get(name, {}).get(0) for name in tensors}
            return {n: t if neurons[n] is None else t[..., neurons[n]] for n, t in tensors.items()}

        found.outputs, found.sums, found.norms = cut(self.outputs), cut(self.sums), cut(self.norms)
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
