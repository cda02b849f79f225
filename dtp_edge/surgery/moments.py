"""Second moments of what the readers of prunable channels see, summed batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.surgery.reference import LEAST_ROWS
from dtp_edge.surgery.sequels import (
    CONV,
    groups_of,
    inputs_at,
    positions,
    scale_and_shift,
    sequel_of,
    takes_up_means,
    weight_of,
)
from dtp_edge.surgery.walk import Walk

__all__ = ["Moment", "moments_of"]

ROWS_PER_INPUT = 8  # fewer than for a fit, which solves for every weight: here rows only rank
AT_ONCE, MOST_AT_ONCE = 2048, 4096  # rows that are summed at once: twice the inputs of a layer
MOST_INPUTS = 2304  # a moment of more is kept in blocks of so many, as if the blocks were independent


@dataclass
class Moment:
    """Sums over `rows` rows: `grams` `[d, d]` and `sums` `[d]`, float64, one for each block of a reader's
    inputs.

    A grouped convolution has a block a group (`groups`); a layer of very many inputs has several blocks of
    columns.
    """

    starts: tuple[int, ...]
    grams: list[Tensor]
    sums: list[Tensor]
    groups: int
    centred: bool
    rows: int = 0
    scale: Tensor | None = None  # of each neuron by the batch norm that follows
    shifted: str | None = None  # the bias, or the norm's running mean, that takes a shift of the output up
    sign: float = 1.0  # +1 where a larger output wants a larger value there

    @classmethod
    def empty(cls, inputs: int, groups: int, per_channel: int, *, centred: bool) -> Moment:
        """`inputs` a group, of which each channel has `per_channel`, which stay in one block."""
        step = max(per_channel, MOST_INPUTS // per_channel * per_channel)
        starts = [g * inputs + i for g in range(groups) for i in range(0, inputs, step)]
        ends = [*starts[1:], groups * inputs]
        sizes = [b - a for a, b in zip(starts, ends, strict=True)]
        return cls(
            (*starts, groups * inputs),
            [torch.zeros(n, n, dtype=torch.float64) for n in sizes],
            [torch.zeros(n, dtype=torch.float64) for n in sizes],
            groups,
            centred,
        )

    def add(self, x: Tensor) -> None:
        """Take in rows `[rows, inputs]`: products about their mean in their own precision, sums in float64.

        Rows that are nearly alike would lose their differences in products about zero.
        """
        self.rows += len(x)
        for i, (gram, total) in enumerate(zip(self.grams, self.sums, strict=True)):
            part = x[:, self.starts[i] : self.starts[i + 1]]
            mean = part.mean(0)
            apart, mean = part - mean, mean.double()
            rest = apart.sum(0, dtype=torch.float64)  # of rounding the mean
            gram += apart.T @ apart
            gram.addmm_(torch.stack([mean, rest + len(x) * mean], 1), torch.stack([rest, mean]))
            total += rest + len(x) * mean

    def blocks(self, ridge: float) -> list[Tensor]:
        """Return the moments, about the mean where a bias or a norm takes that up; `ridge` of their mean on
        top."""
        found = []
        for gram, total in zip(self.grams, self.sums, strict=True):
            block = gram / max(self.rows, 1)
            if self.centred:
                block -= torch.outer(total, total) / max(self.rows, 1) ** 2
            size = block.diagonal().mean()
            block.diagonal().add_(ridge * size if size > 0 else 1.0)
            found.append(block)
        return found


@torch.no_grad()
def moments_of(
    network: PrunableNetwork, batches: Iterable[tuple[Any, ...]], images: int, seed: int = 0
) -> dict[str, Moment]:
    """Return the moments of every layer that reads prunable channels, by its weight's name.

    `batches` are run one after the other; `images` is how many samples they have together, which decides at
    how many positions of each a layer is read.
    """
    walk = _Collecting(network, images, seed)
    for batch in batches:
        walk.run([batch])
    for name in walk.moments:
        walk.sum_up(name)
    return walk.moments


class _Collecting(Walk):
    def __init__(self, network: PrunableNetwork, images: int, seed: int) -> None:
        super().__init__(network.graph_module)
        self.moments: dict[str, Moment] = {}
        self.pending: dict[str, list[Tensor]] = {}
        self.place = {node: i for i, node in enumerate(self.graph.nodes)}
        self.images, self.generator = images, torch.Generator().manual_seed(seed)
        labels = network.tensor_labels
        self.readers = {
            n for n, dims in labels.items() if dims is not None and len(dims) > 1 and dims[1] is not None
        }

    def after(self, node: fx.Node) -> None:
        name = weight_of(node)
        if name not in self.readers:
            return
        args, conv = self.arguments(node, 0), node.target is CONV
        shape, weight = positions(self.values[node][0], conv).shape, args[1]
        inputs, groups = weight[0].numel(), groups_of(node)
        if name not in self.moments:
            centred = takes_up_means(node)
            self.moments[name] = Moment.empty(inputs, groups, weight[0, 0].numel(), centred=centred)
            self._sequel(self.moments[name], node)
        each = min(shape[1], -(-max(LEAST_ROWS, ROWS_PER_INPUT * inputs) // self.images))
        rows = torch.rand(*shape[:2], generator=self.generator).argsort(1)[:, :each]
        x = inputs_at(node, args, rows.to(weight.device)).cpu()
        pending = self.pending.setdefault(name, [])
        pending.append(x.to(torch.promote_types(x.dtype, torch.float32)))
        if sum(map(len, pending)) >= max(AT_ONCE, min(2 * inputs, MOST_AT_ONCE)):
            self.sum_up(name)

    def sum_up(self, name: str) -> None:
        """Add the rows that are held of a layer; few at a time would take longer than all else."""
        if rows := self.pending.pop(name, []):
            self.moments[name].add(torch.cat(rows))

    def _sequel(self, moment: Moment, node: fx.Node) -> None:
        norm, bias = sequel_of(node, self.place).norm, node.args[2] if len(node.args) > 2 else None
        if norm is not None:
            moment.scale = scale_and_shift(self.module, norm)[0].cpu()
            mean = norm.args[3]
            moment.shifted = str(mean.target) if isinstance(mean, fx.Node) else None
        elif isinstance(bias, fx.Node) and bias.op == "get_attr":
            moment.shifted, moment.sign = str(bias.target), -1.0
