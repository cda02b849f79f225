"""From profiles of networks to a device profile: a table a kernel family, and an error of networks left out.

Rows that no layer was found for still take time: each network's kernels are raised by their share. A family
with few rows is costed by work and bytes, at the level of those rows. The error is that of a whole network
predicted without its own rows; of a single network's, five parts of it, one after the other, in its stead.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.cost.features import FEATURES, kernel_features
from dtp_edge.cost.kernels import Kernel
from dtp_edge.cost.memory import weight_bytes
from dtp_edge.errors import InputError
from dtp_edge.fitting.table_fit import BYTES, LINEAR, MATMUL, Shape, fit_table
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.printout_join import Joined
from dtp_edge.profiles.profile import Fusion, Profile, parse_profile

MIN_ROWS, PARTS = 8, 5
HINT = "Profile a network with convolutions or products, and name it with --model."
_CONV = Shape(
    (
        "cin",
        "cout",
        "groups",
        "kh",
        "kw",
        "stride",
        "in_h",
        "in_w",
        "out_h",
        "out_w",
        "extra_bytes",
        "network_bytes",
    ),
    ("one", "macs", "tiled_macs", "copied", "outputs", "inputs", "weights", "cold_weights", "lines", "added"),
    {
        "cin_of_group": 0.5,
        "cout_of_group": 0.5,
        "groups": 0.35,
        "pixels": 0.5,
        "out_w": 0.25,
        "kernel": 0.4,
        "stride": 0.8,
    },
)
_COMPUTING = ("conv1x1", "conv3x3", "conv", "depthwise", "grouped", "conv_transpose", "linear", "matmul")


@dataclass(frozen=True)
class Setting:
    """What a printout does not say of the device, and the person who imports it does."""

    name: str
    precision: str | None = None
    chip: str = "unknown"
    clock_mhz: float | None = None
    threads: int = 1
    version: str = "unknown"


@dataclass(frozen=True)
class _Row:
    key: str
    features: dict[str, float]
    us: float
    network: int
    kernel: int


def profile_of(joined: Sequence[Joined], fusion: Fusion, setting: Setting) -> Profile:
    """Return the profile that these joined printouts make.

    **Raises:** `InputError` if no convolution or product was joined.
    """
    rows = [
        row for number, one in enumerate(joined) for row in _rows(one, number, setting.precision or "fp32")
    ]
    if not any(row.key in _COMPUTING for row in rows):
        raise InputError(
            "no convolution or matrix product could be matched to a layer",
            where=joined[0].printout.path,
            hint=HINT,
        )
    overhead = _overhead_ms(joined)
    document = _document(rows, joined, fusion, setting, overhead)
    document["error"] = _error(rows, joined, fusion, setting, overhead)
    return parse_profile(document)


def _rows(joined: Joined, number: int, precision: str) -> list[_Row]:
    raised = 1.0 / max(1e-3, 1.0 - joined.loose_share)
    held = sum(
        weight_bytes(tensor, precision) * _count(tensor)
        for kernel in joined.lowered.kernels
        for name in kernel.weights
        if len((tensor := joined.layers.tensors[name]).shape) > 1
    )
    found = []
    for index, ms in joined.ms.items():
        if ms <= 0:  # below the profiler's clock
            continue
        kernel = joined.lowered.kernels[index]
        features = _features(kernel, joined.layers, precision) | {"network_bytes": held}
        found.append(_Row(_key(kernel), features, 1e3 * ms * raised, number, index))
    return found


def _key(kernel: Kernel) -> str:
    return kernel.family if kernel.family in _COMPUTING else f"{kernel.family}.{kernel.op}"


def _features(kernel: Kernel, layers: LayerGraph, precision: str) -> dict[str, float]:
    """Return every feature of a kernel in the dense network."""
    found = dict.fromkeys(FEATURES, 0.0)
    for name, terms in kernel_features(kernel, layers, precision).items():
        found[name] = sum(c * float(np.prod([dim.size for dim, _ in factors])) for c, factors in terms)
    return found


def _count(tensor: Any) -> float:
    return float(np.prod([dim.size for dim in tensor.shape]))


def _overhead_ms(joined: Sequence[Joined]) -> float:
    """Return what a call costs beside its kernels, where a profile timed whole calls."""
    timed = [one.printout.latency_ms - one.total_ms for one in joined if one.printout.latency_ms is not None]
    return max(0.0, float(np.median(timed))) if timed else 0.0


def _kernels(rows: Sequence[_Row], source: str) -> tuple[dict[str, Any], float]:
    """Return the "kernels" of a profile, and the bytes a second of what only moves memory."""
    by_key: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    bandwidth = _bandwidth(rows)
    computing = [row for row in rows if row.key in _COMPUTING and row.features["macs"] > 0]
    rate = float(np.median([row.features["macs"] / row.us for row in computing])) * 1e6 if computing else 1e9
    kernels: dict[str, Any] = {}
    for key, found in by_key.items():
        if key.split(".")[0] == "other":
            continue
        if len(found) >= MIN_ROWS:
            columns = {name: np.array([row.features[name] for row in found]) for name in found[0].features}
            kernels[key] = fit_table(columns, np.array([row.us for row in found]), _shape(key), source)
        else:
            kernels[key] = _rates(
                found, rate, bandwidth, f"{source}; {len(found)} kernels, by work and bytes"
            )
    return kernels, bandwidth


def _shape(key: str) -> Shape:
    return {"linear": LINEAR, "matmul": MATMUL}.get(key, _CONV if key in _COMPUTING else BYTES)


def _rates(rows: Sequence[_Row], rate: float, bandwidth: float, source: str) -> dict[str, Any]:
    """Return rates that are `rate` and `bandwidth`, both as much slower as these kernels are (the median)."""
    f = [row.features for row in rows]
    moved = [x["in_bytes"] + x["out_bytes"] + x["extra_bytes"] + x["weight_bytes"] for x in f]
    plain = [1e6 * (x["macs"] / rate + m / bandwidth) for x, m in zip(f, moved, strict=True)]
    level = float(np.median([row.us / max(p, 1e-6) for row, p in zip(rows, plain, strict=True)]))
    entry: dict[str, Any] = {"form": "additive", "bytes_per_second": bandwidth / level, "overhead_ms": 0.0}
    if any(x["macs"] for x in f):
        entry["macs_per_second"] = rate / level
    return entry | {"source": source}


def _bandwidth(rows: Sequence[_Row]) -> float:
    """Return bytes a second of kernels that compute little; of all where there are none such."""
    moving = [row for row in rows if row.key not in _COMPUTING] or list(rows)
    moved = [(row.features["in_bytes"] + row.features["out_bytes"]) / row.us * 1e6 for row in moving]
    return max(1.0, float(np.median(moved)))


def _document(
    rows: Sequence[_Row], joined: Sequence[Joined], fusion: Fusion, setting: Setting, overhead: float
) -> dict[str, Any]:
    first = joined[0].printout
    names = ", ".join(
        f"{one.model.rsplit('/', 1)[-1]} ({one.printout.path.rsplit('/', 1)[-1]})" for one in joined
    )
    loose = max(one.loose_share for one in joined)
    kernels, bandwidth = _kernels(rows, f"measured: {first.runtime}'s profiler")
    today = datetime.date.today().isoformat()
    clock = setting.clock_mhz or first.clock_mhz
    return {
        "schema_version": 1,
        "name": setting.name,
        "description": f"Imported from what {first.runtime}'s profiler printed of {len(joined)} network(s).",
        "device": {
            "name": setting.chip,
            "chip": setting.chip,
            "cores": f"{setting.threads} thread(s)",
            "clock_mhz": clock or 1.0,
        },
        "runtime": {"name": first.runtime, "version": setting.version},
        "precision": setting.precision or "fp32",
        "threads": setting.threads,
        "limits": {},
        "memory_bytes_per_second": bandwidth,
        "kernels": kernels,
        "fusion": {
            "norm": True,
            "activations": list(fusion.activations),
            "add": fusion.add,
            "elementwise_activations": fusion.elementwise_activations,
        },
        "graph_overhead_ms": overhead,
        "provenance": {
            "source": f"dtp-edge profile import: {names}"[:4000],
            "licence": "measured facts; no rights claimed",
            "date": today,
            "how": f"{len(rows)} kernels joined to layers; up to {loose:.1%} of a network's time was not, "
            "and raises all of its kernels alike",
            "facts": f"as typed: chip {setting.chip}; "
            + ("clock known" if clock else "clock unknown, 1 MHz stands for it"),
        },
        "error": {"status": "indicative", "how": "being found"},
    }


def _error(
    rows: Sequence[_Row], joined: Sequence[Joined], fusion: Fusion, setting: Setting, overhead: float
) -> dict[str, Any]:
    models = sorted({one.model for one in joined})
    parts = (
        [(None, model) for model in models]
        if len(models) > 1
        else [(part, models[0]) for part in range(PARTS)]
    )
    errors = []
    for part, model in parts:
        out = {number for number, one in enumerate(joined) if one.model == model}
        away = [row for row in rows if row.network in out and (part is None or _part(row, joined) == part)]
        rest = [row for row in rows if row not in away]
        if not away or not any(row.key in _COMPUTING for row in rest):
            continue
        document = _document(rest, joined, fusion, setting, overhead) | {
            "error": {"status": "indicative", "how": "-"}
        }
        errors.append(_relative(parse_profile(document), away, joined, whole=part is None))
    if not errors:
        return {"status": "indicative", "how": "too few kernels were joined to leave any out"}
    how = (
        f"each of {len(models)} networks predicted from the others"
        if len(models) > 1
        else f"{PARTS} parts of one network, each predicted from the others; "
        "other networks may be further off"
    )
    return {
        "status": "fitted" if len(models) > 2 else "indicative",
        "median_relative": round(float(np.median(errors)), 4),
        "p90_relative": round(float(np.quantile(errors, 0.9)), 4),
        "n": len(errors),
        "how": how,
    }


def _part(row: _Row, joined: Sequence[Joined]) -> int:
    return PARTS * row.kernel // len(joined[row.network].lowered.kernels)


def _relative(profile: Profile, away: Sequence[_Row], joined: Sequence[Joined], *, whole: bool) -> float:
    """Return |predicted / measured - 1| of what was left out: a network, or the kernels of a part of one."""
    number = away[0].network
    cost = NetworkCost(joined[number].layers, profile)
    sizes = cost.dense_sizes()
    if whole:
        return abs(cost.evaluate(sizes)["latency_ms"] / joined[number].latency_ms - 1.0)
    each = {row.name: row.latency_ms for row in cost.by_layer(sizes)}
    kernels = joined[number].lowered.kernels
    mine = [row for row in away if row.network == number]
    predicted = sum(each[kernels[row.kernel].name] for row in mine)
    return abs(1e3 * predicted / sum(row.us for row in mine) - 1.0)
