"""Where the cost goes: by layer, and by moment of the schedule."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import PrunableNetwork
from dtp_edge.run.facts_branches import branch_of_layer


def layer_rows(network: PrunableNetwork, keep: np.ndarray, cost: NetworkCost) -> list[dict[str, Any]]:
    """Return the predicted cost of every kernel, dense beside pruned, in execution order."""
    both = [network.layers.sizes(mask) for mask in (np.ones(network.n_atoms), keep.astype(float))]
    dense, pruned = (cost.by_layer(sizes) for sizes in both)
    shapes = [_shapes(network, sizes) for sizes in both]
    rows, branches = [], branch_of_layer(network)
    for d, p in zip(dense, pruned, strict=True):
        rows.append(
            {
                **({"branch": branches.get(d.name)} if branches else {}),
                "name": d.name,
                "module": d.module,
                "kernel": d.kernel,
                "dense_latency_ms": d.latency_ms,
                "pruned_latency_ms": p.latency_ms,
                "dense_macs": d.macs,
                "pruned_macs": p.macs,
                "dense_weight_bytes": d.weight_bytes,
                "pruned_weight_bytes": p.weight_bytes,
                "dense_shape": shapes[0].get(d.name),
                "pruned_shape": shapes[1].get(d.name),
                "source": d.source,
                "fused_into": d.fused_into,
            }
        )
    return rows


def _shapes(network: PrunableNetwork, sizes: np.ndarray) -> dict[str, list[int]]:
    tensors = network.layers.tensors
    shapes = {}
    for layer in network.layers.layers:
        if layer.outputs and layer.outputs[0] in tensors:
            dims = tensors[layer.outputs[0]].shape
            shapes[layer.name] = [
                d.size if d.width is None else round(d.scale * sizes[d.width]) for d in dims
            ]
    return shapes


def memory_rows(
    network: PrunableNetwork, keep: np.ndarray, cost: NetworkCost, limit_bytes: float | None
) -> dict[str, Any]:
    def rows(mask: np.ndarray) -> list[dict[str, Any]]:
        schedule = cost.memory_schedule(network.layers.sizes(mask))
        return [{"layer": name, "live_bytes": float(live)} for name, live in schedule]

    return {
        "dense": rows(np.ones(network.n_atoms)),
        "pruned": rows(keep.astype(float)),
        "limit_bytes": limit_bytes,
    }
