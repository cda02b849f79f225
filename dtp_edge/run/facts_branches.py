"""Which branches went: what each took in the dense network, and what the loss is worth to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import PrunableNetwork


def branch_facts(
    network: PrunableNetwork, keep: np.ndarray, cost: NetworkCost, rises: Mapping[str, float]
) -> dict[str, Any]:
    """Return the branches with what each saves alone in the dense network, and the additions that have none.

    `rises` is the measured rise of the loss without a branch, at the start; {} where there was no data.
    """
    dense = cost.evaluate(cost.dense_sizes())
    closed = set(network.depth.closed(keep))
    rows = []
    for index, branch in enumerate(network.branches):
        mask = np.ones(network.n_atoms)
        mask[branch.atom] = 0
        without = cost.evaluate(network.layers.sizes(mask))
        rows.append(
            {
                "name": branch.name,
                "gone": index in closed,
                "saves_latency_ms": max(0.0, dense["latency_ms"] - without["latency_ms"]),
                "saves_macs": max(0.0, dense["macs"] - without["macs"]),
                "saves_params": max(0.0, dense["params"] - without["params"]),
                "loss_rise": rises.get(branch.name),
            }
        )
    refused = [{"name": f.name, "code": str(f.code), "reason": f.reason} for f in network.depth.refused]
    return {"branches": rows, "refused": refused}


def branch_of_layer(network: PrunableNetwork) -> dict[str, str]:
    """Return the outermost branch that each layer lies in, by the layer's name."""
    found: dict[str, str] = {}
    for index, branch in enumerate(network.branches):
        outermost = network.branches[network.depth.chain(index)[-1]].name
        found.update(dict.fromkeys((*branch.nodes, branch.addition), outermost))
    return found
