"""From joined rows to the kernels of a profile: one table a family, over a base that all families share.

Few networks show a family at all shapes: a last layer reads its weights from memory, and says nothing of
products with many rows. So what a multiply-accumulate, a value and a launch cost is first found over all
families together; each family's own rates start from there and leave it as far as its rows ask for. Where a
family has no row near, the common rates speak, not a slope through far ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dtp_edge.cost.table import TERMS
from dtp_edge.fitting.table_fit import (
    BYTES,
    LINEAR,
    MATMUL,
    PLAIN,
    Prior,
    Shape,
    fit_columns,
    fit_rates,
    fit_table,
)
from dtp_edge.measure.printout_lanes import step_of

COMPUTING = ("conv1x1", "conv3x3", "conv", "depthwise", "grouped", "conv_transpose", "linear", "matmul")
CONV = Shape(
    PLAIN.columns,
    ("one", "macs", "tiled_macs", "copied", "outputs", "inputs", "weights", "cold_weights", "lines", "added"),
    {
        "cin_of_group": 0.5,
        "cout_of_group": 0.5,
        "groups": 0.35,
        "network_bytes": 0.1,  # a small network's weights stay in a near cache
        "pixels": 0.5,
        "out_w": 0.25,
        "kernel": 0.4,
        "stride": 0.8,
    },
)
LAUNCH_US = 0.5  # of a runtime whose networks show none: no kernel is free
_TERMS: Mapping[str, tuple[str, float]] = {  # term: the common rate that it starts from, and which part of it
    "one": ("launch", 1.0),
    **dict.fromkeys(("macs", "product"), ("mac", 1.0)),
    **dict.fromkeys(("outputs", "inputs", "added", "rows_in", "rows_out", "read", "written"), ("value", 1.0)),
    **dict.fromkeys(("weights", "matrix"), ("weight", 1.0)),
    # what only some runtimes pay for begins at nothing
    "tiled_macs": ("mac", 0.0),
    **dict.fromkeys(("copied", "far_read", "far_written"), ("value", 0.0)),
    **dict.fromkeys(("cold_weights", "cold_matrix"), ("weight", 0.0)),
    **dict.fromkeys(("lines", "channels", "vectors", "batches"), ("line", 0.0)),
}
_SCALES = ("norm.batch_norm",)  # a factor and a summand a channel: no statistics, as other norms take
_FREE = 1e18  # bytes a second of what runs inside other kernels
_LINE = 0.05  # of a launch: what starting one line of an output may cost


@dataclass(frozen=True)
class Row:
    """One kernel of a profiled network: its family (with the operator, where that only moves values), what
    it is like, and how long it took, 0 where it has no row; `network` and `kernel` say which it is."""

    key: str
    features: dict[str, float]
    us: float
    network: int
    kernel: int
    op: str = ""


@dataclass(frozen=True)
class Common:
    """Microseconds that all families share: a launch, a multiply-accumulate, a value read or written by
    kernels that compute and by those that only move, a weight."""

    launch: float
    mac: float
    value: float
    moved: float
    weight: float

    @property
    def bytes_per_second(self) -> float:
        return 4e6 / self.moved


def common_rates(rows: Sequence[Row]) -> Common:
    """Return what the rows of all families have in common."""
    timed = [row for row in rows if row.us > 0]
    computing = [row for row in timed if row.key in COMPUTING and row.features["macs"] > 0]
    moving = [row for row in timed if row.key not in COMPUTING and _values(row) > 0]
    per_value = float(np.median([row.us / _values(row) for row in moving])) if moving else 0.0
    found: dict[str, float] = {}
    if computing:
        us = np.array([row.us for row in computing])
        columns = {
            "one": np.ones(len(us)),
            "mac": np.array([row.features["macs"] for row in computing]),
            "value": np.array([_values(row) for row in computing]),
            "weight": np.array([row.features["weight_bytes"] / 4.0 for row in computing]),
        }
        found = fit_columns(columns, us)
        found.setdefault("mac", float(np.median(us / columns["mac"])))
    value = found.get("value") or per_value / 4.0 or 1e-3
    return Common(
        launch=max(found.get("one", 0.0), LAUNCH_US),
        mac=found.get("mac", 1e-3),
        value=value,
        moved=per_value or value,
        weight=found.get("weight") or value,
    )


def kernels_of(rows: Sequence[Row], common: Common, source: str, lanes: int = 1) -> dict[str, Any]:
    """Return the "kernels" of a profile; families that only move values also as one, for other operators.

    `lanes` channels of an output are computed at a time, which the rows' features have rounded up to.

    A norm that only scales is an elementwise operator where no network has it by itself.

    Kernels that have no row (`us` 0) run inside others, which are the longer for it: what a family costs is
    then that of those with a row, times how many of its kernels have one.
    """
    by_key: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        family = row.key.split(".")[0]
        if family != "other":
            by_key[row.key].append(row)
            if family != row.key:
                by_key[family].append(row)
    for key in _SCALES:
        if key not in by_key and "elementwise" in by_key:
            by_key[key] = by_key["elementwise"]
    return {key: _kernel(key, found, common, source, lanes) for key, found in by_key.items()}


def _kernel(key: str, rows: Sequence[Row], common: Common, source: str, lanes: int) -> dict[str, Any]:
    timed = [row for row in rows if row.us > 0]
    if not timed:
        why = f"{source}: none of {len(rows)} has a row, they run inside other kernels"
        return {"form": "additive", "bytes_per_second": _FREE, "overhead_ms": 0.0, "source": why}
    entry = _table(key, timed, common, source, lanes)
    if len(timed) < len(rows):
        share = len(timed) / len(rows)
        entry["source"] += f"; {len(rows) - len(timed)} others run inside other kernels"
        ops = sorted({row.op for row in rows})
        entry["op_factor"] = dict.fromkeys(ops, round(share, 4))
    return entry


def _table(key: str, rows: Sequence[Row], common: Common, source: str, lanes: int) -> dict[str, Any]:
    columns = {name: np.array([row.features[name] for row in rows]) for name in rows[0].features}
    us, shape = np.array([row.us for row in rows]), replace(shape_of(key), channel_step=step_of(key, lanes))
    priors = {term: _prior(term, common, computes=key in COMPUTING) for term in shape.terms}
    return fit_table(columns, us, shape, f"{source}, {len(rows)} kernels", priors=priors)


def misfit(rows: Sequence[Row]) -> float:
    """Return the mean |log error| with which rates alone, without a table, explain what computes."""
    common, errors = common_rates(rows), []
    for key in COMPUTING:
        mine = [row for row in rows if row.key == key and row.us > 0]
        if mine:
            columns = {name: np.array([row.features[name] for row in mine]) for name in mine[0].features}
            us, terms = np.array([row.us for row in mine]), shape_of(key).terms
            rates = fit_rates(
                columns, us, terms, {term: _prior(term, common, computes=True) for term in terms}
            )
            found = sum(rate * TERMS[term](columns) for term, rate in rates.items())
            errors.append(np.abs(np.log(np.maximum(found, LAUNCH_US) / us)))
    return float(np.mean(np.concatenate(errors))) if errors else 0.0


def shape_of(key: str) -> Shape:
    return {"linear": LINEAR, "matmul": MATMUL}.get(key, CONV if key in COMPUTING else BYTES)


def _prior(term: str, common: Common, *, computes: bool) -> Prior:
    name, part = _TERMS[term]
    value = common.value if computes else common.moved / 2.0
    rates = {"launch": common.launch, "mac": common.mac, "value": value, "weight": common.weight}
    rate = rates.get(name, _LINE * common.launch)
    return Prior(part * rate, rate)


def _values(row: Row) -> float:
    moved = row.features["in_bytes"] + row.features["out_bytes"] + row.features["extra_bytes"]
    return moved / 4.0
