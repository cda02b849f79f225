"""`profile measure`: a profile of this machine, from the kernels of probe networks timed in ONNX Runtime.

Probe networks (see `probes`) run under the runtime's profiler, visited in turns. What the profiler itself
adds to every node is found by comparing the sum of a network's nodes with its latency without the
profiler (a robust straight line over all probes); its intercept is the cost of one call. Then every
kernel family gets a table, and the error is that of probe networks predicted from tables that were
fitted without them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from dtp_edge.cost.machine import Reference, machine_facts
from dtp_edge.cost.node_features import Features, columns, node_features, weights_of
from dtp_edge.cost.node_times import NetworkTimes, measure_networks
from dtp_edge.cost.probe_nets import probe_network
from dtp_edge.cost.profile import Profile, parse_profile
from dtp_edge.cost.table import FLOOR_US, TableKernel
from dtp_edge.cost.table_fit import BLOCKED, BYTES, DEPTHWISE, LINEAR, MATMUL, PLAIN, Shape, fit_table
from dtp_edge.errors import InputError

Progress = Callable[[int, int, str], object]
MIN_ROWS = 8  # fewer rows make no table
FOLDS = 5
_CONVOLUTIONS = ("conv", "depthwise", "grouped")
_ATEN = {
    "Clip": ("relu6", "hardtanh", "clamp", "clamp_min", "clamp_max"),
    "HardSwish": ("hardswish",),
    "HardSigmoid": ("hardsigmoid",),
    "Sigmoid": ("sigmoid",),
    "Tanh": ("tanh",),
    "LeakyRelu": ("leaky_relu",),
}
_FAMILY_ALIASES = {  # what else a measured family stands for
    "elementwise.relu": ("elementwise",),
    "elementwise.add": ("elementwise.sub",),
    "elementwise.mul": ("elementwise.div",),
    "elementwise.sigmoid": ("elementwise.tanh",),
    "elementwise.hardsigmoid": ("elementwise.hardswish",),
    "layout.permute": ("layout.transpose",),
    "layout.split": ("layout",),
    "norm.layer_norm": ("norm",),
    "norm.batch_norm": ("depthwise_plain.batch_norm",),
    "pool.max_pool2d": ("pool",),
    "pool_plain.max_pool2d": ("pool_plain",),
}


@dataclass(frozen=True)
class Plan:
    """How much is measured: `probes` networks in batches, each visited `visits` times for `runs` calls."""

    probes: int
    batch: int
    visits: int
    runs: int


QUICK = Plan(probes=120, batch=40, visits=3, runs=3)
FULL = Plan(probes=700, batch=30, visits=6, runs=3)


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


def measure_host(
    threads: int = 1,
    quick: bool = False,
    progress: Progress | None = None,
    networks: Sequence[bytes] | None = None,
) -> Profile:
    """Measure this machine and return its profile.

    **Arguments:**

    - `threads`: intra-op threads of ONNX Runtime.
    - `quick`: less than 40 s instead of a few minutes, with a larger error.
    - `progress`: called with (done, total, text).
    - `networks`: own ONNX probe networks in place of the built-in ones.

    **Raises:** `InputError` if the machine is too busy to be measured.
    """
    plan = QUICK if quick else FULL
    started = time.strftime("%Y-%m-%d")
    times, reference = collect(threads, plan, progress, networks)
    measured = digest(times, reference)
    name = f"host-onnxruntime-fp32-{threads}t" + ("-quick" if quick else "")
    return parse_profile(profile_document(measured, machine_facts(), threads, name, started))


def collect(
    threads: int,
    plan: Plan,
    progress: Progress | None = None,
    networks: Sequence[bytes] | None = None,
    beside: Callable[[], object] | None = None,
) -> tuple[list[NetworkTimes], list[float]]:
    """Run the probes; return their times and, for each, the reference kernel's quiet time in its batch.

    `beside` is called before every visit of a probe: what it times, it times in the same minutes.
    """
    count = plan.probes if networks is None else len(networks)
    watch = Reference(threads)

    def between() -> None:
        watch.sample()
        if beside is not None:
            beside()

    times: list[NetworkTimes] = []
    reference: list[float] = []
    for start in range(0, count, plan.batch):
        batch = range(start, min(count, start + plan.batch))
        models = [probe_network(i) if networks is None else networks[i] for i in batch]
        watch.forget()
        times += measure_networks(models, threads, visits=plan.visits, runs=plan.runs, between=between)
        watch.refuse_if_busy()
        reference += [watch.quiet_ms()] * len(models)
        if progress is not None:
            progress(len(times), count, "timing kernels in ONNX Runtime")
    return times, reference


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


def profile_document(
    measured: Measured, facts: dict[str, Any], threads: int, name: str, date: str
) -> dict[str, Any]:
    """Return the profile's JSON document."""
    how = f"kernels of {len(measured.latency_us)} probe networks under ONNX Runtime's profiler, {date}"
    kernels: dict[str, Any] = {}
    for key, found in measured.rows.items():
        if len(found) >= MIN_ROWS and key != "view":
            us = np.array([row[1] for row in found])
            entry = fit_table(columns(row[0] for row in found), us, shape_of(key), f"measured: {how}")
            for label in (key, *_FAMILY_ALIASES.get(key, ())):
                kernels[label] = entry
    if not any(key.startswith("conv") for key in kernels):
        raise InputError("the measurements hold no convolution", where="kernels")
    error = held_out_error(measured)
    document: dict[str, Any] = {
        "schema_version": 1,
        "name": name,
        "description": f"Measured on the machine itself: {facts['chip']}, {threads} thread(s).",
        "device": {k: facts[k] for k in ("name", "chip", "cores", "clock_mhz")},
        "runtime": {"name": "ONNX Runtime", "version": facts.get("runtime_version", ort.__version__)},
        "precision": "fp32",
        "threads": threads,
        "limits": {"ram_bytes": facts["ram_bytes"]},
        "memory_bytes_per_second": facts["memory_bytes_per_second"],
        "kernels": kernels,
        "fusion": {
            "norm": True,
            "activations": [
                "relu",
                "relu6",
                "hardtanh",
                "clamp",
                "sigmoid",
                "hardsigmoid",
                "leaky_relu",
                "hardswish",
                "tanh",
            ],
            "add": True,
            "norm_is_convolution": measured.block is not None,
            "activation_ns_per_value": {op: round(ns, 5) for op, ns in measured.activation_ns.items()},
        },
        "graph_overhead_ms": 1e-3 * measured.call_us,
        "provenance": {
            "source": "dtp-edge profile measure",
            "licence": "measured facts; no rights claimed",
            "date": date,
            "how": how,
            "reference_ms": measured.reference_ms,
            "spread": f"median interquartile range of a probe's calls {measured.spread:.1%}",
            "recipe": f"dtp-edge profile measure --threads {threads}",
        },
        "error": {
            "status": "measured",
            "median_relative": float(np.median(error)),
            "p90_relative": float(np.percentile(error, 90)),
            "n": len(error),
            "how": f"probe networks predicted from tables fitted without them ({FOLDS} folds)",
        },
    }
    if measured.block is not None and measured.block > 1:
        document["layout"] = {"kind": "blocked", "block": measured.block, "align": 4}
    return document


def held_out_error(measured: Measured) -> np.ndarray:
    """Return |predicted / measured - 1| of every probe network, each predicted from the other folds."""
    predicted = measured.call_us + measured.activation_us
    for key, found in measured.rows.items():
        index = np.array([row[2] for row in found])
        us = np.array([row[1] for row in found])
        features = columns(row[0] for row in found)
        estimate = us.copy()
        if len(found) >= 2 * MIN_ROWS and key != "view":
            for fold in range(FOLDS):
                out = index % FOLDS == fold
                if out.any() and (~out).sum() >= MIN_ROWS:
                    inside = {name: values[~out] for name, values in features.items()}
                    entry = fit_table(inside, us[~out], shape_of(key), "fold")
                    asked = {name: values[out] for name, values in features.items()}
                    estimate[out] = TableKernel.from_json(entry, key).latency_us(asked)
        np.add.at(predicted, index, estimate)
    return np.abs(predicted / measured.latency_us - 1.0)


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
