"""From the node times of probe networks to rows of kernels: features, microseconds, which network.

What the profiler itself adds to every node is found by comparing the sum of a network's nodes with its
latency without the profiler (a robust straight line over all probes); its intercept is the cost of one
call. Activations that run inside a convolution are told from it by comparing it with those that have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dtp_edge.cost.table import FLOOR_US, TableKernel
from dtp_edge.fitting.table_fit import (
    BLOCKED,
    BYTES,
    DEPTHWISE,
    LINEAR,
    MATMUL,
    PLAIN,
    Shape,
    fit_table,
)
from dtp_edge.measure.node_features import Features, columns, node_features, weights_of
from dtp_edge.measure.node_times import NetworkTimes

MIN_ROWS = 8  # fewer rows make no table
_CONVOLUTIONS = ("conv", "depthwise", "grouped")
_ATEN = {
    "Clip": ("relu6", "hardtanh", "clamp", "clamp_min", "clamp_max"),
    "HardSwish": ("hardswish",),
    "HardSigmoid": ("hardsigmoid",),
    "Sigmoid": ("sigmoid",),
    "Tanh": ("tanh",),
    "LeakyRelu": ("leaky_relu",),
}


@dataclass(frozen=True)
class Measured:
    """Kernel rows by family: `features`, `us` and the index of the network they come from; each
    network's `latency_us`; the fitted `call_us`; the reference kernel's time and the machine's noise."""

    rows: dict[str, list[tuple[Features, float, int]]]
    latency_us: np.ndarray
    call_us: float
    reference_ms: float
    spread: float
    block: int | None
    activation_ns: dict[str, float]
    activation_us: np.ndarray  # fused activations of each network, not in its rows


def digest(times: Sequence[NetworkTimes], reference: Sequence[float]) -> Measured:
    """Turn node times into kernel rows: to one machine speed, without what the profiler adds."""
    slow = np.asarray(reference) / np.median(reference)
    total = np.array([sum(n.us for n in t.nodes) for t in times]) / slow
    count = np.array([len(t.nodes) for t in times], dtype=float)
    latency = np.array([t.latency_us for t in times]) / slow
    per_node, call_us = calibrate(total, count, latency)
    rows: dict[str, list[tuple[Features, float, int]]] = defaultdict(list)
    activated: dict[str, list[str]] = defaultdict(list)
    channels: list[int] = []
    for index, network in enumerate(times):
        network_bytes = weights_of(network.nodes)
        for node in network.nodes:
            found = node_features(node)
            if found is not None:
                found[1]["network_bytes"] = network_bytes
                us = max(node.us / slow[index] + per_node, FLOOR_US)
                rows[found[0]].append((found[1], us, index))
                activated[found[0]].append(node.activation)
            if node.blocked and node.op == "Conv":
                channels.append(node.outputs[0][1])
    extra = activation_costs(rows, activated)
    fused_us = np.zeros(len(times))
    for key, names in activated.items():
        if key.startswith(_CONVOLUTIONS):  # tables hold convolutions with ReLU or nothing
            for place, ((features, us, index), name) in enumerate(zip(rows[key], names, strict=True)):
                part = min(1e-3 * extra.get(name, 0.0) * _values(features), us - FLOOR_US)
                rows[key][place] = (features, us - part, index)
                fused_us[index] += part
    return Measured(
        rows=dict(rows),
        activation_us=fused_us,
        activation_ns={op: extra[name] for name, ops in _ATEN.items() for op in ops if name in extra},
        latency_us=latency,
        call_us=max(call_us, 0.0),
        reference_ms=float(np.median(reference)),
        spread=float(np.median([t.spread for t in times])),
        block=int(np.gcd.reduce(channels)) if channels else None,
    )


def activation_costs(
    rows: Mapping[str, list[tuple[Features, float, int]]], activated: Mapping[str, list[str]]
) -> dict[str, float]:
    """Return nanoseconds an output value that a fused activation adds to a convolution, beyond ReLU: the
    median excess over the tables of the convolutions with ReLU or none."""
    excess: dict[str, list[float]] = defaultdict(list)
    for key, names in activated.items():
        if not key.startswith(_CONVOLUTIONS):
            continue
        plain = [row for row, name in zip(rows[key], names, strict=True) if name in ("", "Relu")]
        others = [(row, name) for row, name in zip(rows[key], names, strict=True) if name not in ("", "Relu")]
        others = [(row, name) for row, name in others if _values(row[0]) >= 10_000]
        if len(plain) < MIN_ROWS or not others:
            continue
        us = np.array([row[1] for row in plain])
        entry = fit_table(columns(row[0] for row in plain), us, shape_of(key), "plain")
        expected = TableKernel.from_json(entry, key).latency_us(columns(row[0] for row, _ in others))
        for (row, name), base in zip(others, expected, strict=True):
            excess[name].append(1e3 * (row[1] - float(base)) / _values(row[0]))
    return {name: max(0.0, float(np.median(found))) for name, found in excess.items() if len(found) >= 5}


def _values(features: Features) -> float:
    return features["cout"] * features["out_h"] * features["out_w"]


def calibrate(total: np.ndarray, count: np.ndarray, latency: np.ndarray) -> tuple[float, float]:
    """Return (microseconds a node, microseconds a call) with latency ~ total + per_node * count + call;
    the profiler's own cost makes `per_node` negative."""
    matrix = np.stack([count, np.ones_like(count)], axis=1)
    rest = latency - total
    weight = 1.0 / latency
    solution = np.zeros(2)
    for _ in range(20):
        solution = np.linalg.lstsq(matrix * weight[:, None], rest * weight, rcond=None)[0]
        error = (matrix @ solution - rest) / latency
        weight = 1.0 / (latency * np.sqrt(1.0 + (error / 0.03) ** 2))
    return float(min(solution[0], 0.0)), float(solution[1])


def shape_of(key: str) -> Shape:
    """Return the layout of a kernel key's table."""
    family = key.split(".")[0]
    if family.startswith("pool") or "." in key:
        return BYTES
    if family.endswith("_plain") or family in ("grouped", "conv_transpose"):
        return PLAIN
    if family == "depthwise":
        return DEPTHWISE
    return BLOCKED if family.startswith("conv") else {"linear": LINEAR, "matmul": MATMUL}.get(family, BYTES)
