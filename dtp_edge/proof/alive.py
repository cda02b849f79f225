"""Does the output still depend on the input? A network can be cut to a constant that is equal in every proof.

A layer norm over one channel returns its bias, a layer whose kept channels are all dead returns zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.errors import first_line
from dtp_edge.graph import MaskedNetwork, mode_of
from dtp_edge.graph.leaves import call, leaves, random_like
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.proof.check import Check
from dtp_edge.surgery.compaction import Compact

NAME = "outputs depend on the input"
_STILL = 1e-6  # of an output's scale: less than this is the rounding of a constant
_MOVES = 1e-4
_HINT = "Raise the budget, or leave the layers before that output whole (exclude)."


def check_depends_on_input(network: PrunableNetwork, keep: np.ndarray, compact: Compact) -> Check:
    """Run the compact network on two random inputs; every output that moves in the dense one must move.

    `value` is how many outputs stand still.
    """
    dense = MaskedNetwork(network, np.ones(network.n_atoms, dtype=bool))
    try:
        with mode_of(dense, compact.graph_module, training=False):
            pruned = _movement(compact.graph_module, network.example_inputs)
            if min(pruned, default=1.0) > _STILL:
                return Check(NAME, True, 0.0, 0.0, "2 random inputs")
            before = _movement(dense, network.example_inputs)
    except Exception as error:  # whatever an operator raises
        return Check(NAME, False, float("inf"), 0.0, f"a network raises {first_line(error, kind=True)}")
    pairs = enumerate(zip(before, pruned, strict=True))
    still = [str(n) for n, (was, now) in pairs if was > _MOVES and now <= _STILL]
    if not still:
        return Check(
            NAME, True, 0.0, 0.0, "2 random inputs (some outputs are constants of the dense network)"
        )
    why = f"output {', '.join(still)} is the same whatever the input is: so few channels are left before it"
    return Check(NAME, False, float(len(still)), 0.0, why, _HINT)


def _movement(module: Any, example_inputs: tuple[Any, ...]) -> list[float]:
    """Return for each output by how much of its scale it moves from one random input to another."""
    one, other = (leaves(call(module, random_like(example_inputs, seed))) for seed in (23, 24))
    found = []
    for a, b in zip(one, other, strict=True):
        x, y = a.double(), b.double()
        scale = float(x.abs().max()) if x.numel() else 0.0
        found.append(float((x - y).abs().max()) / scale if scale else float(bool((x != y).any())))
    return found
