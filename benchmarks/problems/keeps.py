"""Keep vectors for tests: random, half, one channel a group."""

from __future__ import annotations

import numpy as np

from dtp_edge.graph import PrunableNetwork


def random_keep(network: PrunableNetwork, share: float, seed: int) -> np.ndarray:
    """Return a keep vector: `share` of the atoms of every group, at least one each, at random."""
    rng = np.random.default_rng(seed)
    keep = np.zeros(network.n_atoms, dtype=bool)
    for g in network.groups:
        count = g.stop - g.start
        keep[g.start + rng.permutation(count)[: max(1, round(share * count))]] = True
    return keep


def random_depth(network: PrunableNetwork, share: float, seed: int) -> np.ndarray:
    """Return a `random_keep` with half of all gates closed, at least one, as far as that leaves a network."""
    rng = np.random.default_rng(seed)
    keep = random_keep(network, share, seed)
    order = [network.branches[i].atom for i in rng.permutation(len(network.branches))]
    for number, atom in enumerate(order):
        keep[atom] = number > 0 and rng.random() < 0.5
        if network.depth.fault(keep) is not None:
            keep[atom] = True
    return keep
