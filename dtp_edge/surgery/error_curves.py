"""From moments to one curve a group: in what order its atoms go, and what every width loses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dtp_edge.graph.network import Group, PrunableNetwork
from dtp_edge.surgery.compaction import named_tensors
from dtp_edge.surgery.moments import Moment
from dtp_edge.surgery.obs import Curve, Reads, eliminate

__all__ = ["curves_of", "repaired_without"]

RIDGE = 0.01


def curves_of(
    network: PrunableNetwork, moments: Mapping[str, Moment], shares: tuple[float, ...] = ()
) -> list[Curve | None]:
    """Return the curve of every group, None for one that no fitted layer reads (what a softmax reads, say).

    A reader's errors count relative to the size of what it makes. Without each of `shares` of a group's atoms
    the curve also holds the repaired weights.
    """
    found: list[Curve | None] = []
    weights = named_tensors(network.graph_module)
    for group in network.groups:
        readers = [r for name, m in moments.items() for r in _reads(network, group, name, weights[name], m)]
        n = group.stop - group.start
        found.append(eliminate(readers, n, keep_at=[_count(n, s) for s in shares]) if readers else None)
    return found


def _count(n: int, share: float) -> int:
    return min(n - 1, max(1, round(share * n)))


def _reads(network: PrunableNetwork, group: Group, name: str, weight: Tensor, moment: Moment) -> list[Reads]:
    labels = network.tensor_labels[name]
    atoms = None if labels is None else labels[1]
    if atoms is None or not ((atoms >= group.start) & (atoms < group.stop)).any():
        return []
    matrix = weight.detach().flatten(1).double().cpu()
    per_channel = matrix.shape[1] // len(atoms)
    index, column = np.nonzero((atoms >= group.start) & (atoms < group.stop))
    pairs = np.unique(np.stack([atoms[index, column] - group.start, index]), axis=1)
    blocks = moment.blocks(RIDGE)
    each = len(blocks) // moment.groups
    found = []
    for i, block in enumerate(blocks):
        start = moment.starts[i] - (i // each) * matrix.shape[1]
        rows = matrix.chunk(moment.groups)[i // each][:, start : start + len(block)]
        if moment.scale is not None:
            rows = rows * moment.scale.chunk(moment.groups)[i // each][:, None]
        first = start // per_channel
        inside = (pairs[1] >= first) & (pairs[1] < first + len(block) // per_channel)
        columns = _columns(pairs[0][inside], pairs[1][inside] - first, group.stop - group.start, per_channel)
        if (columns >= 0).any():
            found.append(Reads(block, rows, columns, name, (i // each, start), i))
    return found


def _columns(atom: np.ndarray, index: np.ndarray, n: int, per_channel: int) -> np.ndarray:
    """Columns of every atom, `[n, c]`, filled up with -1."""
    counts = np.bincount(atom, minlength=n)
    columns = np.full((n, max(1, int(counts.max(initial=0))) * per_channel), -1, dtype=np.int64)
    filled = np.zeros(n, dtype=np.int64)
    for a, i in zip(atom.tolist(), index.tolist(), strict=True):
        columns[a, filled[a] : filled[a] + per_channel] = np.arange(i * per_channel, (i + 1) * per_channel)
        filled[a] += per_channel
    return columns


def repaired_without(
    network: PrunableNetwork, curve: Curve, moments: Mapping[str, Moment], count: int
) -> dict[str, Tensor]:
    """Return what a group's readers become once the first `count` atoms of its curve are gone, by tensor
    name.

    Their weights, and the bias or running mean that takes up the shift of their outputs.
    """
    tensors = named_tensors(network.graph_module)
    found: dict[str, Tensor] = {}
    for reads, weight in curve.repaired[count]:
        moment, own = moments[reads.name], tensors[reads.name]
        weights = found.setdefault(reads.name, own.detach().clone())
        g, start = reads.place
        rows = weights.flatten(1).chunk(moment.groups)[g][:, start : start + weight.shape[1]]
        if moment.scale is not None:
            scale = moment.scale.chunk(moment.groups)[g][:, None]
            weight = weight / torch.where(scale.abs() > 1e-12, scale, torch.ones_like(scale))
        if moment.centred and moment.shifted is not None:
            mean = moment.sums[reads.block] / max(moment.rows, 1)
            shift = moment.sign * (weight - rows.cpu().double()) @ mean
            other = found.setdefault(moment.shifted, tensors[moment.shifted].detach().clone())
            other.chunk(moment.groups)[g].add_(shift.to(other))
        rows.copy_(weight)
    return found
