"""What the layers of the compact network should make: samples of what they make in the dense one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from dtp_edge.surgery.sequels import CONV, chosen, positions, sequel_of, weight_of
from dtp_edge.surgery.walk import Walk

ROWS_PER_INPUT = 24  # patches read per unknown of a neuron, at least
LEAST_ROWS = 8192


class Reference(Walk):
    """Runs the dense graph and keeps every layer's output at a random sample of its positions.

    `outputs` `[rows, neurons kept]` by weight, `rows` `[images, positions an image]` of every batch; with
    `streams` also the sum that the layer's output is added to, at the same positions.
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
    ) -> None:
        super().__init__(module, tensors)
        self.layers, self.kept = layers, kept
        self.generator = torch.Generator().manual_seed(seed)
        self.outputs: dict[str, Tensor] = {}
        self.rows: dict[str, list[Tensor]] = {}
        self.sums: dict[str, Tensor] = {}
        self.norms: dict[str, Tensor] = {}  # of the neurons' weights
        self._adds: dict[fx.Node, fx.Node] = {}
        place = {node: i for i, node in enumerate(self.graph.nodes)}
        for node in self.graph.nodes if streams else ():
            if self._fitted(node) and (add := sequel_of(node, place).add) is not None:
                self._adds[add] = node

    def _fitted(self, node: fx.Node) -> str | None:
        name = weight_of(node)
        return name if name is not None and self.layers.get(name, "absent") is None else None

    def after(self, node: fx.Node) -> None:
        layer = self._adds.get(node)
        if layer is not None and (name := self._fitted(layer)) is not None:
            shapes = {tuple(v.shape) for v in self.arguments(node, 0)}
            if len(shapes) == 1:  # nothing is broadcast
                self.sums[name] = self._sampled(node, name, layer.target is CONV)
        name = self._fitted(node)
        if name is not None:
            conv, unknowns = node.target is CONV, self.arguments(node, 0)[1][0].numel()
            shapes = [positions(out, conv).shape for out in self.values[node]]
            images = sum(shape[0] for shape in shapes)
            self.rows[name] = [
                self._sample(shape[0], shape[1], images, unknowns).to(out.device)
                for shape, out in zip(shapes, self.values[node], strict=True)
            ]
            self.outputs[name] = self._sampled(node, name, conv)
            norms, neurons = self.arguments(node, 0)[1].flatten(1).norm(dim=1), self.kept.get(name, {}).get(0)
            self.norms[name] = norms if neurons is None else norms[neurons]

    def _sampled(self, node: fx.Node, name: str, conv: bool) -> Tensor:
        neurons = self.kept.get(name, {}).get(0)
        pairs = zip(self.values[node], self.rows[name], strict=True)
        return torch.cat([chosen(out, conv, rows, neurons) for out, rows in pairs])

    def _sample(self, count: int, places: int, images: int, unknowns: int) -> Tensor:
        """Positions of `count` of all `images`, `[count, positions an image]`."""
        rows = max(LEAST_ROWS, ROWS_PER_INPUT * unknowns)
        each = min(places, -(-rows // images))
        noise = torch.rand(count, places, generator=self.generator)
        return noise.argsort(1)[:, :each]
