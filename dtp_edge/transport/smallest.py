"""The cheapest network that can be had, and how many atoms a step of the device's grid takes.

Where every cost rises with every width it is one atom in every group. A runtime with blocked layouts can
be slower on one channel than on a whole block, so there the cheapest widths are searched for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dtp_edge.graph.network import PrunableNetwork

if TYPE_CHECKING:
    from dtp_edge.transport.meter import CostModel, Meter

__all__ = ["few_counts", "first_atoms", "least_counts", "steps_of"]


def first_atoms(network: PrunableNetwork, counts: np.ndarray) -> np.ndarray:
    """Return the mask `[n_atoms]` that keeps the first `counts [n_groups]` atoms of every group."""
    mask = np.zeros(network.n_atoms)
    for group, count in zip(network.groups, counts, strict=True):
        mask[group.start : group.start + int(count)] = 1.0
    return mask


def steps_of(network: PrunableNetwork, cost: CostModel) -> np.ndarray:
    """Atoms of every group per device step, int `[n_groups]`: the largest step of any width it is part of."""
    steps = np.asarray(cost.channel_steps(), dtype=np.int64)
    size = np.array([g.stop - g.start for g in network.groups], dtype=np.int64)
    owner = np.repeat(np.arange(len(size)), size)
    found = np.ones(len(size), dtype=np.int64)
    for width, step in zip(network.layers.widths, steps, strict=True):
        indices = np.bincount(owner[width[width >= 0]], minlength=len(size))
        for g in np.flatnonzero(indices):
            per_atom = max(1, int(indices[g]) // int(size[g]))
            found[g] = max(found[g], -(-int(step) // per_atom))
    return found


def least_gates(meter: Meter, counts: np.ndarray) -> np.ndarray:
    """Return `counts` with every gate closed, but for those that must be open to leave a network.

    Of two branches that are all that an addition adds, the one stays that is cheaper at these counts.
    """
    depth, found = meter.network.depth, counts.copy()
    gates = [branch.group for branch in depth.branches]
    found[gates] = 0

    def fault(values: np.ndarray) -> bool:
        return depth.fault(first_atoms(meter.network, values).astype(bool)) is not None

    while fault(found):
        tried = []
        for i in (i for i, gate in enumerate(gates) if not found[gate]):
            new = found.copy()
            new[[gates[j] for j in depth.chain(i)]] = 1
            tried.append((fault(new), meter.used(first_atoms(meter.network, new))[0], i))
        if not tried:
            break
        best = min(tried)[2]
        found[[gates[j] for j in depth.chain(best)]] = 1
    return found


def few_counts(meter: Meter) -> tuple[np.ndarray, np.ndarray]:
    """Return the two obvious candidates for the cheapest network: one atom each, one device step each."""
    sizes = np.array([g.stop - g.start for g in meter.network.groups], dtype=np.int64)
    ones, steps = np.ones_like(sizes), np.minimum(steps_of(meter.network, meter.cost), sizes)
    if meter.network.branches:
        ones, steps = least_gates(meter, ones), least_gates(meter, steps)
    return ones, steps


def least_counts(meter: Meter) -> np.ndarray:
    """Return the atoms kept in every group, `[n_groups]`, of the cheapest network found for the limits.

    One atom each where that fits; otherwise also one device step each, and from the better of the two
    one group at a time, while the largest cost over limit falls.
    """
    network = meter.network
    ones, steps = few_counts(meter)
    if (steps <= 1).all():
        return ones

    def used(counts: np.ndarray) -> float:
        return meter.used(first_atoms(network, counts))[0]

    best, least = ones, used(ones)
    if least > 1.0 and (other := used(steps)) < least:
        best, least = steps, other
    improved = True
    while improved and least > 1.0:
        improved = False
        for g, group in enumerate(network.groups):
            if group.kind == "branch":
                continue
            for count in {1, int(steps[g]), min(2 * int(steps[g]), group.stop - group.start)}:
                new = best.copy()
                new[g] = count
                if (value := used(new)) < least * (1 - 1e-9):
                    best, least, improved = new, value, True
    return best
