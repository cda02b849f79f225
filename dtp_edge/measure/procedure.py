"""`profile measure`: a profile of this machine, from the kernels of probe networks timed in ONNX Runtime.

Probe networks (see `probes`) run under the runtime's profiler, visited in turns. What the profiler itself
adds to every node is found by comparing the sum of a network's nodes with its latency without the
profiler (a robust straight line over all probes); its intercept is the cost of one call. Then every
kernel family gets a table, and the error is that of probe networks predicted from tables that were
fitted without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from dtp_edge.cost.table import TableKernel
from dtp_edge.errors import InputError
from dtp_edge.fitting.table_fit import fit_table
from dtp_edge.measure.digest import MIN_ROWS, Measured, digest, shape_of
from dtp_edge.measure.machine import CpuShare, Reference, machine_facts
from dtp_edge.measure.node_features import columns
from dtp_edge.measure.node_times import NetworkTimes, measure_networks
from dtp_edge.measure.probe_nets import probe_network
from dtp_edge.profiles.profile import Profile, parse_profile

OnProbe = Callable[[int, int, str], object]
FOLDS = 5
SMALL_US = 200.0  # networks below it are told apart: the timer's grain and the call weigh more
_FUSED = ["relu", "relu6", "hardtanh", "clamp", "sigmoid", "hardsigmoid", "leaky_relu", "hardswish", "tanh"]
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
class Effort:
    """How much is measured: `probes` networks in batches, each visited `visits` times for `runs` calls.
    No batch begins later than `seconds` after the first."""

    probes: int
    batch: int
    visits: int
    runs: int
    seconds: float = 480.0
    least_cpu_share: float = 0.4  # of the time that this process must have a processor


QUICK = Effort(probes=120, batch=40, visits=3, runs=3, seconds=25.0)
FULL = Effort(probes=700, batch=30, visits=6, runs=3)


def measure_host(
    threads: int = 1,
    quick: bool = False,
    progress: OnProbe | None = None,
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
    effort = QUICK if quick else FULL
    started = time.strftime("%Y-%m-%d")
    times, reference = collect(threads, effort, progress, networks)
    measured = digest(times, reference)
    name = f"host-onnxruntime-fp32-{threads}t" + ("-quick" if quick else "")
    return parse_profile(profile_document(measured, machine_facts(), threads, name, started))


def collect(
    threads: int,
    effort: Effort,
    progress: OnProbe | None = None,
    networks: Sequence[bytes] | None = None,
    beside: Callable[[], object] | None = None,
) -> tuple[list[NetworkTimes], list[float]]:
    """Run the probes, or as many as the effort's time allows; return their times and, for each, the reference
    kernel's quiet time in its batch.

    `beside` is called before every visit of a probe: what it times, it times in the same minutes.
    """
    count = effort.probes if networks is None else len(networks)
    watch = Reference(threads)
    share, started = CpuShare(), time.monotonic()

    def between() -> None:
        share.refuse_if_less(effort.least_cpu_share)
        watch.sample()
        if beside is not None:
            beside()

    times: list[NetworkTimes] = []
    reference: list[float] = []
    for start in range(0, count, effort.batch):
        if times and time.monotonic() - started > effort.seconds:
            break
        batch = range(start, min(count, start + effort.batch))
        models = [probe_network(i) if networks is None else networks[i] for i in batch]
        watch.forget()
        times += measure_networks(models, threads, visits=effort.visits, runs=effort.runs, between=between)
        watch.refuse_if_busy()
        reference += [watch.quiet_ms()] * len(models)
        if progress is not None:
            progress(len(times), count, "timing kernels in ONNX Runtime")
    return times, reference


def profile_document(
    measured: Measured, facts: dict[str, Any], threads: int, name: str, date: str
) -> dict[str, Any]:
    """Return the profile's JSON document."""
    how = f"kernels of {len(measured.latency_us)} probe networks under ONNX Runtime's profiler, {date}"
    error = held_out_error(measured)
    whole = np.arange(len(error)) % 2 == 0  # chains of odd blocks are for the tables; users have networks
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
        "kernels": _tables(measured, f"measured: {how}"),
        "fusion": {
            "norm": True,
            "activations": list(_FUSED),
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
            "facts": "sourced: all of them, read from the machine itself.",
            "spread": f"median interquartile range of a probe's calls {measured.spread:.1%}",
            "recipe": f"dtp-edge profile measure --threads {threads}",
        },
        "error": stated_error(error[whole], measured.latency_us[whole]),
    }
    if measured.block is not None and measured.block > 1:
        document["layout"] = {"kind": "blocked", "block": measured.block, "align": 4}
    return document


def stated_error(error: np.ndarray, latency_us: np.ndarray) -> dict[str, Any]:
    """Return the profile's "error" for the relative errors of whole networks, small ones told apart."""
    small = latency_us < SMALL_US
    found: dict[str, Any] = {
        "status": "measured",
        "median_relative": float(np.median(error)),
        "p90_relative": float(np.percentile(error, 90)),
        "n": len(error),
        "how": f"whole probe networks predicted from tables fitted without them ({FOLDS} folds)",
    }
    if small.any():
        middle, most = np.median(error[small]), np.percentile(error[small], 90)
        found["notes"] = (
            f"networks under {1e-3 * SMALL_US:g} ms: ±{middle:.1%} "
            f"(median of {small.sum()}, 90 % within {most:.0%})"
        )
    return found


def _tables(measured: Measured, source: str) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for key, found in measured.rows.items():
        if len(found) >= MIN_ROWS and key != "view":
            us = np.array([row[1] for row in found])
            entry = fit_table(columns(row[0] for row in found), us, shape_of(key), source)
            for label in (key, *_FAMILY_ALIASES.get(key, ())):
                tables[label] = entry
    if not any(key.startswith("conv") for key in tables):
        raise InputError(
            "the measurements hold no convolution",
            where="kernels",
            hint="Measure again with more time: a profile without convolutions prices no network.",
        )
    return tables


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
