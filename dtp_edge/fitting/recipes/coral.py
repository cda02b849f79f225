"""Google's Edge TPU from Coral's benchmark page: 13 networks, int8.

8 MiB of SRAM hold a network's weights between calls; what is beyond comes over the bus each time (Coral's
compiler documentation), which is why VGG16 takes 300 ms and ResNet-50 50.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtp_edge.fitting.networks import shipped_networks
from dtp_edge.fitting.recipes.fleet import Fleet, Measurement, Shape, at_most, fleet_kind
from dtp_edge.fitting.recipes.kind import Recipe
from dtp_edge.fitting.recipes.tables import Found, read_samples

_TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
_SRAM_BYTES = 8 * 1024 * 1024
_SYSTOLIC_PEAK = 2e12  # MAC/s: the vendor's 4 TOPS


def fleet(data: Path, group: str) -> Fleet:
    """Return the Dev Board and the USB stick."""
    boards: dict[str, list[Measurement]] = {d["board"]: [] for d in _TABLE["devices"]}
    left: list[str] = []

    def row(line: Mapping[str, str]) -> Found | None:
        name = line["model"]
        network, family = _TABLE["networks"].get(name, ("", ""))
        if (network, "npu") not in shipped_networks():
            left.append(name)
            return None
        for board, measured in boards.items():
            measured.append(Measurement(name, network, family, float(line[board])))
        return name, family, (), 1.0

    read_samples(data / "coral" / "edgetpu_benchmarks.csv", row)
    fastest = {"": at_most(_SYSTOLIC_PEAK)}
    shape = Shape(1e12, 2e10, 5e9, 1.0, 2e6, input=5e8)
    return Fleet(group, "npu", shape, boards, {}, fastest, cache_elements=_SRAM_BYTES, left_out=left)


def entries() -> dict[str, Recipe]:
    """Return the recipe of both."""
    return {d["slug"]: _entry(d) for d in _TABLE["devices"]}


def _entry(device: dict[str, Any]) -> Recipe:
    facts = {key: device[key] for key in ("name", "chip", "cores", "clock_mhz")}
    return {
        "group": "coral",
        "board": device["board"],
        "description": f"{device['name']}, {device['cores']}, int8; weights beyond 8 MiB come over the bus",
        "device": {**facts, "kind": "npu", "vendor": "Google"},
        "runtime": {"name": "TFLite with Edge TPU delegate", "version": "not stated"},
        "precision": "int8",
        "threads": 1,
        "limits": {"ram_bytes": device["ram_bytes"]} if "ram_bytes" in device else {},
        "memory_bytes_per_second": 1e9,
        "provenance": {
            "source": "Coral, Edge TPU performance benchmarks (transcribed by hand)",
            "url": "https://coral.ai/docs/edgetpu/benchmarks/",
            "licence": "facts of a public page; licence not checked",
            "facts": "sourced: latencies, 8 MiB SRAM, 4 TOPS. recalled: clock, bandwidth.",
        },
        "status": "indicative",
        "notes": "13 networks or fewer: no rate of a single kind of layer is certain",
    }


KINDS = (
    fleet_kind(
        "coral", fleet, entries, "MACs by kind, activations, weights on and off the chip, launches, log error"
    ),
)
