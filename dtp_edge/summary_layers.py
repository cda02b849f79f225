"""Where the cost goes: by layer, by group with its staircase, by moment of the schedule."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import Group, PrunableNetwork

MAX_STAIRCASE_GROUPS = 24  # the ones with most latency at stake; a curve costs up to 64 evaluations
MAX_STAIRCASE_POINTS = 64
FREE = 0.001  # a step that adds less than this share of the latency is called free


def layer_rows(network: PrunableNetwork, keep: np.ndarray, cost: NetworkCost) -> list[dict[str, Any]]:
    """Return the predicted cost of every kernel, dense beside pruned, in execution order."""
    both = [network.layers.sizes(mask) for mask in (np.ones(network.n_atoms), keep.astype(float))]
    dense, pruned = (cost.by_layer(sizes) for sizes in both)
    shapes = [_shapes(network, sizes) for sizes in both]
    rows = []
    for d, p in zip(dense, pruned, strict=True):
        rows.append(
            {
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


def group_rows(network: PrunableNetwork, keep: np.ndarray, cost: NetworkCost) -> list[dict[str, Any]]:
    """Return the width of every group and, for the groups that matter most, its latency staircase."""
    latency = _Latency(network, keep, cost)
    steps = atom_steps(network, cost)
    weight = {g.name: latency.at(g, 1) for g in network.groups}
    shown = sorted(network.groups, key=lambda g: weight[g.name])[:MAX_STAIRCASE_GROUPS]
    names = {g.name for g in shown}
    rows = []
    for group in network.groups:
        kept = int(keep[group.start : group.stop].sum())
        row: dict[str, Any] = {
            "name": group.name,
            "kind": group.kind,
            "kept": kept * group.channels_per_atom,
            "total": group.total,
            "step": steps[group.name] * group.channels_per_atom,
            "next_free_step": _next_step(group, kept, steps[group.name], latency),
            "staircase": _staircase(group, latency) if group.name in names else [],
            "layers": sorted({name.rsplit(".", 1)[0] for name, _ in group.members}),
        }
        rows.append(row)
    return rows


def atom_steps(network: PrunableNetwork, cost: NetworkCost) -> dict[str, int]:
    """Return, for every group, how many of its atoms make one step of the device's staircase."""
    widths = network.layers.widths
    largest = {g.name: 1 for g in network.groups}
    starts = np.array([g.start for g in network.groups])
    for width, step in zip(widths, cost.channel_steps(), strict=True):
        atoms = np.unique(width[width >= 0])
        if len(atoms) == 0:
            continue
        for index in np.unique(np.searchsorted(starts, atoms, side="right") - 1):
            group = network.groups[index]
            step_atoms = max(1, round(int(step) / group.channels_per_atom))
            largest[group.name] = max(largest[group.name], min(step_atoms, group.stop - group.start))
    return largest


class _Latency:
    """Latency of the pruned network when one group alone changes its width."""

    def __init__(self, network: PrunableNetwork, keep: np.ndarray, cost: NetworkCost) -> None:
        self.network, self.cost, self.mask = network, cost, keep.astype(float)
        self.now = self.at_mask(self.mask)

    def at_mask(self, mask: np.ndarray) -> float:
        return float(self.cost.evaluate(self.network.layers.sizes(mask))["latency_ms"])

    def at(self, group: Group, atoms: int) -> float:
        mask = self.mask.copy()
        mask[group.start : group.stop] = np.arange(group.stop - group.start) < atoms
        return self.at_mask(mask)


def _next_step(group: Group, kept: int, step: int, latency: _Latency) -> dict[str, Any] | None:
    total = group.stop - group.start
    if kept >= total:
        return None
    larger = min((kept // step + 1) * step, total)
    return {
        "width": larger * group.channels_per_atom,
        "extra_latency_ms": max(latency.at(group, larger) - latency.now, 0.0),
    }


def _staircase(group: Group, latency: _Latency) -> list[dict[str, Any]]:
    total = group.stop - group.start
    widths = np.unique(np.linspace(1, total, min(total, MAX_STAIRCASE_POINTS)).round().astype(int))
    return [
        {"width": int(w) * group.channels_per_atom, "latency_ms": latency.at(group, int(w))} for w in widths
    ]


def suggestions(groups: list[dict[str, Any]], network: PrunableNetwork, cost: NetworkCost) -> list[str]:
    """Say what to try next: channels that cost nothing, and what holds most of the latency."""
    texts = []
    now = None
    for row in groups:
        step = row["next_free_step"]
        if step is None or step["width"] <= row["kept"]:
            continue
        now = now or max((p["latency_ms"] for p in row["staircase"]), default=0.0)
        if now and step["extra_latency_ms"] <= FREE * now:
            extra = step["width"] - row["kept"]
            texts.append(f"{extra} more channels in {row['name']} cost nothing measurable on this device.")
    if network.frozen:
        count = len(network.frozen)
        parts = "1 part was" if count == 1 else f"{count} parts were"
        texts.append(f"{parts} left whole, each with its reason; a change there widens what can be pruned.")
    return texts[:8]
