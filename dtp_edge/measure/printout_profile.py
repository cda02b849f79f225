"""From profiles of networks to a device profile: a table a kernel family, and an error of networks left out.

The error is that of a whole network predicted without its own rows; of a single network's, five parts of it,
one after the other, in its stead.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.errors import InputError
from dtp_edge.measure.printout_fit import COMPUTING, Row, common_rates, kernels_of, misfit
from dtp_edge.measure.printout_join import Joined
from dtp_edge.measure.printout_lanes import lanes_of
from dtp_edge.measure.printout_rows import Beside, beside_of, rows_of
from dtp_edge.profiles.profile import Fusion, Profile, parse_profile

PARTS = 5
_LANES = (1, 4, 8, 16, 32, 64)  # tried where no name says it
_BETTER = 0.97  # of the error: what a larger one must be better by
HINT = "Profile a network with convolutions or products, and name it with --model."


@dataclass(frozen=True)
class Setting:
    """What a printout does not say of the device, and the person who imports it does."""

    name: str
    precision: str | None = None
    chip: str = "unknown"
    clock_mhz: float | None = None
    threads: int = 1
    version: str = "unknown"


def profile_of(joined: Sequence[Joined], fusion: Fusion, setting: Setting) -> Profile:
    """Return the profile that these joined printouts make.

    **Raises:** `InputError` if no convolution or product was joined.
    """
    beside = beside_of(joined)
    lanes = _lanes(joined, setting.precision or "fp32", beside)
    rows = rows_of(joined, setting.precision or "fp32", beside, lanes)
    if not any(row.key in COMPUTING and row.us > 0 for row in rows):
        raise InputError(
            "no convolution or matrix product could be matched to a layer",
            where=joined[0].printout.path,
            hint=HINT,
        )
    found = _Import(joined, fusion, setting, beside, lanes)
    document = found.document(rows)
    document["error"] = found.error(rows)
    return parse_profile(document)


def _lanes(joined: Sequence[Joined], precision: str, beside: Beside) -> int:
    """Return the channels that are computed at a time: as names say, or as rates explain several networks'
    rows best; of one or two the best is chance."""
    if named := lanes_of(joined, precision):
        return named
    if len({one.model for one in joined}) < 3:
        return 1
    best, least = 1, math.inf
    for lanes in _LANES:
        off = misfit(rows_of(joined, precision, beside, lanes))
        if off < _BETTER * least:
            best, least = lanes, off
    return best


@dataclass(frozen=True)
class _Import:
    """What a profile is made of beside its rows, of which the error leaves some out."""

    joined: Sequence[Joined]
    fusion: Fusion
    setting: Setting
    beside: Beside
    lanes: int

    def document(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return the profile's document; its error is to be found."""
        joined, setting = self.joined, self.setting
        first = joined[0].printout
        names = ", ".join(
            f"{one.model.rsplit('/', 1)[-1]} ({one.printout.path.rsplit('/', 1)[-1]})" for one in joined
        )
        source = f"{first.runtime}'s profiler"
        loose = max(one.loose_share for one in joined)
        common = common_rates(rows)
        precision = setting.precision or "fp32"
        today = datetime.date.today().isoformat()
        clock = setting.clock_mhz or first.clock_mhz
        return {
            "schema_version": 1,
            "name": setting.name,
            "description": f"Imported from what {source} printed of {len(joined)} network(s).",
            "device": {
                "name": setting.chip,
                "chip": setting.chip,
                "cores": f"{setting.threads} thread(s)",
                "clock_mhz": clock or 1.0,
            },
            "runtime": {"name": first.runtime, "version": setting.version},
            "precision": precision,
            "threads": setting.threads,
            "limits": {},
            "memory_bytes_per_second": common.bytes_per_second,
            "kernels": kernels_of(rows, common, f"measured: {source}", self.lanes),
            "fusion": {
                "norm": True,
                "activations": list(self.fusion.activations),
                "add": self.fusion.add,
                "elementwise_activations": self.fusion.elementwise_activations,
            },
            "graph_overhead_ms": self.beside.call_ms,
            "input_ns_per_value": self.beside.input_ns_per_value,
            "provenance": {
                "source": f"dtp-edge profile import: {names}"[:4000],
                "licence": "measured facts; no rights claimed",
                "date": today,
                "how": f"{sum(row.us > 0 for row in rows)} kernels joined to layers; up to {loose:.1%} of "
                "a network's time was not (layouts turned are priced by values of the input, anything else "
                "raises the kernels alike)",
                "facts": f"as typed: chip {setting.chip}; "
                + ("clock known" if clock else "clock unknown, 1 MHz stands for it"),
            },
            "error": {"status": "indicative", "how": "being found"},
        }

    def error(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return the error of networks left out, of a single one's parts."""
        models = sorted({one.model for one in self.joined})
        parts = (
            [(None, model) for model in models]
            if len(models) > 1
            else [(part, models[0]) for part in range(PARTS)]
        )
        errors = []
        for part, model in parts:
            out = [
                self.joined[row.network].model == model and part in (None, _part(row, self.joined))
                for row in rows
            ]
            away = [row for row, gone in zip(rows, out, strict=True) if gone]
            rest = [row for row, gone in zip(rows, out, strict=True) if not gone]
            timed = [row.key in COMPUTING for row in rest if row.us > 0]
            if not any(row.us > 0 for row in away) or not any(timed):
                continue
            with suppress(InputError):  # nothing else has a family that is left out
                profile = parse_profile(self.document(rest))
                errors.append(_relative(profile, away, self.joined, whole=part is None))
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


def _part(row: Row, joined: Sequence[Joined]) -> int:
    return PARTS * row.kernel // len(joined[row.network].lowered.kernels)


def _relative(profile: Profile, away: Sequence[Row], joined: Sequence[Joined], *, whole: bool) -> float:
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
