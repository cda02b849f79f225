"""A profile from a user's own measurements: any shipped profile's form and prior, fitted to new latencies.

Give it 8 or more networks (own, a vendor's, a peer runtime's numbers) measured on the board, as traced
graphs or as a table of layers, and a shipped additive profile that resembles the board. The base's rates
are the prior: a board as a whole may be any factor faster, single rates may differ by about a sixth, so
what the networks do not show stays where the base has it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.cost.kernels import lower
from dtp_edge.cost.memory import activation_bytes, weight_bytes
from dtp_edge.cost.resolve import resolve
from dtp_edge.cost.work import products
from dtp_edge.errors import InputError
from dtp_edge.fitting.rates import HeldOut, solve
from dtp_edge.fitting.recipes.ncnn import kernel_key as ncnn_key
from dtp_edge.fitting.recipes.tflite_tables import kernel_key as tflite_key
from dtp_edge.fitting.rows import LayerRow, plain_number, read_csv, read_layer_table
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.profiles.profile import Profile, RateModel

HINT = "docs/own-board.md shows the table: network,latency_ms and optionally family."

MIN_NETWORKS = 4
_LEVEL_SD, _KIND_SD, _OWN_SD = 2.0, 0.3, 0.15
_PARTS = (
    "macs_per_second",
    "bytes_per_second",
    "weight_bytes_per_second",
    "spill_bytes_per_second",
    "overhead_ms",
)
_COLD = ("weight_cache", "bytes_per_second")
Amounts = dict[tuple[str, str], float]  # (kernel key, part) -> ms on the base profile


@dataclass(frozen=True)
class Measured:
    """One measured network: what each rate of the base costs it, and what it took."""

    name: str
    family: str
    amounts: Amounts
    latency_ms: float


def from_graph(name: str, family: str, layers: LayerGraph, latency_ms: float, base: Profile) -> Measured:
    """Return a measured network from its traced layers (dense sizes). Raises `InputError`."""
    amounts: Amounts = {}
    in_all = 0.0
    for kernel in lower(layers, base.fusion).kernels:
        found = resolve(kernel, base)
        model = _rates(found.model, base)
        sides = {"in": model.channel_step[0], "out": model.channel_step[1], "": 1}
        work = 0.0
        for product in products(kernel, layers):
            value = 1.0
            for dim, side in product:
                value *= -(-dim.size // sides[side]) * sides[side]
            work += value
        tensors = [layers.tensors[n] for n in (*kernel.inputs, *kernel.outputs)]
        moved = sum(activation_bytes(t, base.precision) * _count(t.shape) for t in tensors)
        weights = [layers.tensors[n] for n in kernel.weights]
        held = sum(weight_bytes(t, base.precision) * _count(t.shape) for t in weights)
        _add(amounts, found.key, model, work, moved, held, model.op_factor.get(kernel.op, 1.0))
        in_all += sum(weight_bytes(t, base.precision) * _count(t.shape) for t in weights if len(t.shape) > 1)
    _add_cold(amounts, in_all, base)
    return Measured(name, family, amounts, latency_ms)


def from_table(
    name: str, family: str, layers: Sequence[LayerRow], latency_ms: float, base: Profile
) -> Measured:
    """Return a measured network from a table of layers (see `fit_rows.read_layer_table`)."""
    amounts: Amounts = {}
    in_all = 0.0
    element = {"fp32": 4, "fp16": 2}.get(base.precision, 1)
    for layer in layers:
        key = tflite_key(layer) if layer.type.isupper() else ncnn_key(layer)
        if key is None:
            continue
        model = base.kernels.get(key) or base.kernels.get(key.split(".")[0]) or base.kernels.get("conv")
        if model is None:
            raise InputError(
                f"profile {base.name} has no kernel family {key!r}", where=f"{name}: {layer.layer}", hint=HINT
            )
        used = next(k for k in (key, key.split(".")[0], "conv") if base.kernels.get(k) is model)
        rates = _rates(model, base)
        work = layer.macs
        for count, step in zip((layer.cin, layer.cout), rates.channel_step, strict=True):
            work *= -(-count // step) * step / count if count else 1.0
        moved = element * (layer.in_elements + layer.out_elements)
        held = element * layer.params if layer.macs else 0.0
        _add(amounts, used, rates, work, moved, held, 1.0)
        in_all += held
    _add_cold(amounts, in_all, base)
    return Measured(name, family, amounts, latency_ms)


def read_measured(latencies: Path, table: Path, base: Profile) -> list[Measured]:
    """Read a CSV with columns network, latency_ms and optionally family, and the networks' layer table."""
    nets = read_layer_table(table)
    measured = []
    for number, line in enumerate(read_csv(latencies), start=2):
        name, latency_ms, family = latency_line(line, f"{latencies}: line {number}")
        if name not in nets:
            raise InputError(
                f"network {name!r} is not in {table}", where=f"{latencies}: line {number}", hint=HINT
            )
        measured.append(from_table(name, family, nets[name], latency_ms, base))
    return measured


def latency_line(line: Mapping[str, str], where: str) -> tuple[str, float, str]:
    """Return (network, latency_ms, family) of one line of a latency CSV. Raises `InputError`."""
    name = (line.get("network") or "").strip()
    try:
        latency_ms = plain_number(line.get("latency_ms") or "nan")
    except ValueError:
        latency_ms = -1.0
    if not name or latency_ms <= 0:
        raise InputError("needs a network and a positive latency_ms", where=where, hint=HINT)
    return name, latency_ms, (line.get("family") or name).strip()


def fit_measured(
    base: Profile,
    measured: Sequence[Measured],
    *,
    name: str,
    changes: Mapping[str, Any],
    date: str,
    source: str,
) -> tuple[dict[str, Any], HeldOut]:
    """Fit the base's rates to `measured`; return the profile document and the held-out predictions.

    `changes` replaces top-level fields of the document (device, runtime, threads, limits, ...). Families
    are held out one at a time for the error. Raises `InputError` for fewer than 4 networks or 2 families.
    """
    families = sorted({m.family for m in measured})
    if len(measured) < MIN_NETWORKS or len(families) < 2:
        raise InputError(
            f"{len(measured)} networks of {len(families)} families are too few to fit and to check",
            hint=f"Measure at least {MIN_NETWORKS} networks of 2 families; 20 give a usable error bar.",
        )
    rates = sorted({rate for m in measured for rate in m.amounts})
    matrix = np.array([[m.amounts.get(rate, 0.0) for rate in rates] for m in measured])
    latency = np.array([m.latency_ms for m in measured])
    precision = np.linalg.inv(_covariance(rates))
    centre = np.full(len(rates), float(np.median(np.log(latency / matrix.sum(axis=1)))))
    predicted = np.zeros(len(measured))
    for family in families:
        out = np.array([m.family == family for m in measured])
        predicted[out] = matrix[out] @ np.exp(solve(matrix[~out], latency[~out], centre, precision))
    held = HeldOut(tuple(m.name for m in measured), predicted, latency)
    factors = dict(zip(rates, np.exp(solve(matrix, latency, centre, precision)), strict=True))
    everything = float(np.exp(centre[0]))  # what nobody measured is as much slower as the board is
    document = _document(base, factors, everything)
    document |= {**changes, "name": name}
    document["provenance"] = {
        "source": source,
        "licence": "the user's own measurements",
        "date": date,
        "how": f"rates of {base.name} fitted to {len(measured)} networks on log error",
    }
    document["error"] = {
        "status": "fitted",
        "median_relative": round(held.median(), 4),
        "p90_relative": round(held.p90(), 4),
        "n": len(measured),
        "how": "leave one network family out",
    }
    return document, held


def _document(base: Profile, factors: Mapping[tuple[str, str], float], everything: float) -> dict[str, Any]:
    document = copy.deepcopy(dict(base.document))
    for key, kernel in document["kernels"].items():
        if (key, "weight_bytes_per_second") in factors:
            kernel.setdefault("weight_bytes_per_second", kernel["bytes_per_second"])
        for part in _PARTS:
            if part not in kernel:
                continue
            factor = factors.get((key, part), everything)
            value = kernel[part] * factor if part == "overhead_ms" else kernel[part] / factor
            kernel[part] = float(f"{value:.4g}")
        kernel["source"] = "fitted" if any(k == key for k, _ in factors) else f"scaled from {base.name}"
    if "weight_cache" in document:
        slower = factors.get(_COLD, everything)
        document["weight_cache"]["bytes_per_second"] = (
            base.document["weight_cache"]["bytes_per_second"] / slower
        )
    for key in ("graph_overhead_ms", "input_ns_per_value"):
        if key in document:
            document[key] = document[key] * everything
    document["memory_bytes_per_second"] = document["memory_bytes_per_second"] / everything
    return document


def _covariance(rates: Sequence[tuple[str, str]]) -> np.ndarray:
    parts = [part for _, part in rates]
    covariance = np.eye(len(rates)) * _OWN_SD**2 + _LEVEL_SD**2
    for kind in ("macs_per_second", "overhead_ms"):
        member = np.array([part == kind for part in parts], dtype=float)
        covariance += _KIND_SD**2 * np.outer(member, member)
    return covariance


def _rates(model: object, base: Profile) -> RateModel:
    if isinstance(model, RateModel) and model.form == "additive":
        return model
    raise InputError(
        f"profile {base.name} is not additive, so its rates cannot be fitted",
        hint="Choose an additive profile with --like, such as rpi4-ncnn-fp32-1t.",
    )


def _add(
    amounts: Amounts, key: str, model: RateModel, work: float, moved: float, held: float, factor: float
) -> None:
    parts = {
        "macs_per_second": work / model.macs_per_second if model.macs_per_second else 0.0,
        "bytes_per_second": moved / model.bytes_per_second,
        "weight_bytes_per_second": held / model.weight_bytes_per_second,
        "spill_bytes_per_second": max(moved - (model.spill_bytes or np.inf), 0.0)
        / model.spill_bytes_per_second,
        "overhead_ms": model.overhead_ms / 1e3,
    }
    for part, seconds in parts.items():
        if seconds:
            amounts[key, part] = amounts.get((key, part), 0.0) + 1e3 * seconds * factor


def _add_cold(amounts: Amounts, held: float, base: Profile) -> None:
    """Add what a network's weights beyond the base's weight cache cost."""
    cache = base.weight_cache
    if cache is not None and held > cache.bytes:
        amounts[_COLD] = 1e3 * (held - cache.bytes) / cache.bytes_per_second


def _count(shape: Sequence[Any]) -> float:
    return float(np.prod([dim.size for dim in shape])) if shape else 1.0
