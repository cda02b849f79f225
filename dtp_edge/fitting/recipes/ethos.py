"""Arm Ethos-U profiles from the cycle estimates of Vela, Arm's own compiler. Analytical: no silicon.

A layer takes the longest of three streams: MACs with channels rounded up to blocks of 16 (the staircase
that Vela's estimates show: 17 channels cost what 32 do), activations through SRAM, and weights from
off-chip flash. The rates are fitted on Vela's layers (log error, the active stream of each layer
re-chosen until it settles), and checked on the sums of networks that were left out.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.fitting.rates import HeldOut, solve
from dtp_edge.fitting.recipes.kind import Kind, Parts
from dtp_edge.fitting.recipes.tflite_tables import kernel_key, rows_of
from dtp_edge.fitting.rows import KernelRow, LayerRow, read_csv, read_layer_table

BLOCK = 16
STEPS = {
    "conv1x1": {"in_channels": BLOCK, "out_channels": BLOCK},
    "conv": {"in_channels": BLOCK, "out_channels": BLOCK},
    "depthwise": {"out_channels": BLOCK},
}
_OPERATORS = {
    "Conv2D": ("conv1x1", "conv"),
    "DepthwiseConv2D": ("depthwise",),
    "FullyConnected": ("linear",),
    "Add": ("elementwise",),
    "MaxPool": ("pool",),
    "AvgPool": ("pool",),
}
_FITTED = ("conv1x1", "conv", "depthwise", "linear", "elementwise", "pool")
_MOVERS = ("elementwise", "pool")
_STREAMS = 3  # MACs, activation bytes, weight bytes


class VelaLayers:
    """Vela's layers of one accelerator, joined with their shapes: amounts `[n, 3]`, cycles `[n]`."""

    def __init__(self, data: Path, accelerator: str) -> None:
        shapes = _shapes(data)
        estimates: dict[str, list[dict[str, str]]] = defaultdict(list)
        for line in read_csv(data / "vela" / "vela_per_layer.csv"):
            if line["accel"] == accelerator:
                estimates[line["model"]].append(line)
        self.keys: list[str] = []
        self.nets: list[str] = []
        amounts: list[tuple[float, float, float]] = []
        cycles: list[float] = []
        for net in sorted(set(estimates) & set(shapes)):
            for row, count in _join(shapes[net], estimates[net]):
                self.keys.append(row.key)
                self.nets.append(net)
                amounts.append((row.macs, row.activation_elements, row.weight_elements))
                cycles.append(count)
        self.amounts, self.cycles = np.array(amounts), np.array(cycles)


def _shapes(data: Path) -> dict[str, list[LayerRow]]:
    tiny = read_layer_table(data / "mlperf_tiny" / "mlperf_tiny_layers.csv", "model")
    zoo = read_layer_table(data / "stm32" / "stm32_2023_layers.csv", "row")
    shapes = {name.removesuffix(".tflite"): layers for name, layers in tiny.items()}
    for line in read_csv(data / "stm32" / "stm32_2023_latency_macs.csv"):
        shapes[Path(line["file"]).stem] = zoo[line["row"]]
    return shapes


def _join(layers: list[LayerRow], lines: list[dict[str, str]]) -> list[tuple[KernelRow, float]]:
    """Pair layers with estimates by operator and MAC count (by operator and order where it has none)."""
    waiting: dict[tuple[str, int], list[float]] = defaultdict(list)
    for line in lines:
        for key in _OPERATORS.get(line["NNG Operator"], ()):
            macs = int(float(line["MAC Count"])) if key not in _MOVERS else 0
            waiting[key, macs].append(float(line["Op Cycles"]))
    pairs = []
    for layer in layers:
        key = kernel_key(layer)
        found = waiting.get((key or "", int(layer.macs)))
        if found and key in _FITTED:
            cycles = found.pop(0)
            if cycles > 0:
                pairs.append((rows_of([layer], STEPS)[0], cycles))
    return pairs


def fit_streams(amounts: np.ndarray, cycles: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return cycles a unit of each stream, `[3]`, such that their maximum predicts `cycles`."""
    rate = start.copy()
    mean, precision = np.log(start), np.diag([1 / 0.7**2] * _STREAMS)
    for _ in range(25):
        active = (amounts * rate).argmax(axis=1)
        matrix = np.zeros_like(amounts)
        matrix[np.arange(len(amounts)), active] = amounts[np.arange(len(amounts)), active]
        updated = np.exp(solve(matrix + 1e-9, cycles, mean, precision, noise=0.3))
        if np.allclose(updated, rate, rtol=1e-3):
            break
        rate = np.sqrt(rate * updated)
    return rate


def ethos_fit(data: Path, accelerator: str, macs_per_cycle: float) -> tuple[dict[str, np.ndarray], HeldOut]:
    """Return cycles a MAC, activation byte and weight byte of each family, and held-out network sums."""
    layers = VelaLayers(data, accelerator)
    keys, nets = np.array(layers.keys), np.array(layers.nets)

    def fit(rows: np.ndarray) -> dict[str, np.ndarray]:
        rates = {}
        for key in _FITTED:
            start = np.array([1.0 / macs_per_cycle, 0.25, 2.0])
            chosen = rows & (keys == key)
            rates[key] = (
                fit_streams(layers.amounts[chosen], layers.cycles[chosen], start) if chosen.any() else start
            )
        return rates

    everything = np.ones(len(keys), dtype=bool)
    names = sorted(set(layers.nets))
    predicted = []
    for net in names:
        rates = fit(nets != net)
        each = np.array([rates[k] for k in keys[nets == net]]) * layers.amounts[nets == net]
        predicted.append(each.max(axis=1).sum())
    measured = [layers.cycles[nets == net].sum() for net in names]
    return fit(everything), HeldOut(tuple(names), np.array(predicted), np.array(measured))


def kernels(rates: dict[str, np.ndarray], clock_hz: float) -> dict[str, dict[str, object]]:
    """Return the "kernels" object of the profile."""
    result: dict[str, dict[str, object]] = {}
    for key, (mac, activation, weight) in rates.items():
        document: dict[str, object] = {
            "form": "analytical",
            "macs_per_cycle": float(f"{1 / mac:.4g}"),
            "clock_hz": clock_hz,
            "bytes_per_second": float(f"{clock_hz / activation:.4g}"),
            "weight_bytes_per_second": float(f"{clock_hz / weight:.4g}"),
            "overhead_ms": 0.0,
            "source": "analytical: Vela's estimates",
        }
        if key in STEPS:
            document["channel_step"] = dict(STEPS[key])
        result[key] = document
    return result


def _build(recipe: dict[str, Any], data: Path) -> Parts:
    rates, held = ethos_fit(data, recipe["accelerator"], recipe["macs_per_cycle"])
    how = "the longest of three streams a layer, fitted on Vela's per-layer cycles; blocks of 16 channels"
    return Parts(kernels(rates, recipe["clock_hz"]), held, how)


KINDS = (Kind("ethos", _build, "leave one network out, sum of layers against Vela's sum of the same layers"),)
