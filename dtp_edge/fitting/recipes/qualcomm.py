"""Hexagon NPUs from Qualcomm AI Hub's published latencies (qai_hub_models 0.65), float (run as fp16) and
w8a8.

Channels are taken in blocks of 32, the depth of the HMX unit's tiles in Qualcomm's documents of HTP. Devices
whose rows are equal to the digit are one measurement, given out for a chip; one profile names them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtp_edge.fitting.recipes.fleet import Fleet, Line, Shape, channel_steps, fleet_kind, read_fleet_table
from dtp_edge.fitting.recipes.kind import Recipe

_TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
_BLOCK, _VTCM_BYTES = 32, 4 * 1024 * 1024
_RUNTIMES = {"tflite": "TFLite with QNN delegate", "qnn_dlc": "Qualcomm QNN"}
# TFLite's delegate has no 3-D convolution: its rows are 20 to 160 times QNN's for the same networks
_THREE_DIMENSIONS = ("resnet_2plus1d", "resnet_3d", "resnet_mixed")
_MACS = {"fp16": 5e12, "w8a8": 1.5e13}  # half of what 45 TOPS in int8 would be, and a third of that in fp16
_ASKED = {"fp16": 0.25, "w8a8": 0.2}


def fleet(data: Path, group: str) -> Fleet:
    """Return all devices of one "runtime precision"."""
    runtime, precision = group.split()
    wanted = {"fp16": "float"}.get(precision, precision)
    boards = {
        d["board"] for d in _TABLE["devices"] if d["runtime"] == runtime and precision in d["precisions"]
    }

    def row(line: Mapping[str, str]) -> Line | None:
        asked = line["device"] in boards and (line["runtime"], line["precision"]) == (runtime, wanted)
        three = runtime == "tflite" and line["model"] in _THREE_DIMENSIONS
        whole = (
            not three
            and line["unit"] == "NPU"
            and line["status"] == "Passed"
            and not (line["cpu"] or line["gpu"])
        )
        return (line["device"], line["model"], float(line["ms"])) if asked and whole else None

    found, left = read_fleet_table(data / "qai_hub_0.65" / "perf.csv", _TABLE["networks"], "npu", row)
    spill = _VTCM_BYTES / {"fp16": 2, "w8a8": 1}[precision]
    steps = {"": channel_steps(_BLOCK)}
    shape, strays = Shape(_MACS[precision], 5e11, 4e10, 1.0, spill), precision == "w8a8"
    return Fleet(group, "npu", shape, found, steps, left_out=left, strays=strays)


def entries() -> dict[str, Recipe]:
    """Return the recipe of every device and precision."""
    return {
        f"{d['slug']}-hexagon-{precision}": _entry(d, precision)
        for d in _TABLE["devices"]
        for precision in d["precisions"]
    }


def _entry(device: dict[str, Any], precision: str) -> Recipe:
    facts = {key: device[key] for key in ("name", "chip")}
    runtime = _RUNTIMES[device["runtime"]]
    same = f"; AI Hub's rows of {', '.join(device['also'])} are the same" if "also" in device else ""
    return {
        "group": f"{device['runtime']} {precision}",
        "board": device["board"],
        "description": f"{device['name']}, Hexagon NPU, {runtime}, {precision}{same}",
        "device": {**facts, "cores": "Hexagon NPU", "clock_mhz": 1000, "kind": "npu", "vendor": "Qualcomm"},
        "runtime": {"name": runtime, "version": "as of qai_hub_models 0.65.0"},
        "precision": precision,
        "threads": 1,
        "limits": {"ram_bytes": device["ram_bytes"]} if "ram_bytes" in device else {},
        "memory_bytes_per_second": 50e9,
        "provenance": {
            "source": "Qualcomm AI Hub models 0.65.0, published latencies",
            "url": "https://pypi.org/project/qai_hub_models/0.65.0/",
            "licence": "BSD-3-Clause",
            "facts": "sourced: latencies, runtime, precision (AI Hub). recalled: chip, RAM, bandwidth, "
            "blocks of 32 channels. The NPU's clock is a placeholder that no number depends on.",
        },
        "asked_relative": _ASKED[precision],
        "missed_why": "because whole networks show no single kind of layer, and a few are far off",
        "marked": True,
    }


KINDS = (
    fleet_kind(
        "qualcomm",
        fleet,
        entries,
        "MACs by kind, activations, weights, launches and calls, log error, all devices",
    ),
)
