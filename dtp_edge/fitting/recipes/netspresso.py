"""Boards of Nota's NetsPresso device matrix: Jetsons (TensorRT), Raspberry Pis (TFLite), i.MX 93, RZ/V2L, a
Xeon.

The networks are that trainer's own; those with the same name in packages stand for them (with 1000 classes
for its 3, 35 or 4). Channel steps: tensor cores take fp16 in blocks of 8 (NVIDIA's deep learning performance
guide), GPUs before them pairs; XNNPACK's microkernels make 8 output channels at a time; the Ethos-U65 16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtp_edge.fitting.recipes.fleet import (
    Fleet,
    Line,
    Shape,
    Steps,
    channel_steps,
    fleet_kind,
    read_fleet_table,
)
from dtp_edge.fitting.recipes.kind import Recipe

_TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
_RUNTIMES = {"tensorrt": "TensorRT", "tflite": "TFLite", "openvino": "OpenVINO", "drpai": "DRP-AI"}
# data sheets: tensor cores 5 to 40 TMAC/s in fp16 over 68 to 205 GB/s, GPUs before them 0.24 and 0.67 over 26
# and 60; four Arm cores 20 to 80 GMAC/s; the Ethos-U65 0.25 TMAC/s
_GROUPS: dict[str, tuple[str, str, Shape]] = {
    "jetson-orin": ("tensorrt", "tensorrt", Shape(4e12, 2e10, 2e10, 10.0, 2e6)),
    "jetson-cuda": ("tensorrt", "tensorrt", Shape(1.5e11, 8e9, 8e9, 15.0, 131_072)),
    "pi-fp16": ("tflite", "tflite", Shape(1e10, 1.2e9, 1e9, 5.0, 262_144)),
    "pi-int8": ("tflite", "tflite", Shape(3e10, 4e9, 3e9, 5.0, 1_048_576)),
    "imx93": ("tflite", "npu", Shape(1.2e11, 3e9, 3e9, 10.0, 393_216)),
    "xeon": ("openvino", "npu", Shape(2e11, 8e9, 8e9, 10.0, 1e6)),
    "drpai": ("drpai", "npu", Shape(2e11, 3e9, 3e9, 10.0, 1e6)),
}
_XNNPACK = channel_steps(8, inputs=False, depthwise=True)
_STEPS: dict[str, dict[str, Steps]] = {
    "jetson-orin": {"": channel_steps(8)},
    "jetson-cuda": {"": channel_steps(2)},
    "pi-fp16": {"": _XNNPACK},
    "pi-int8": {"": _XNNPACK},
    "imx93": {"": channel_steps(16)},
    "xeon": {"": channel_steps(16)},
    "drpai": {},
}
_ASKED = {"jetson-orin": 0.15, "jetson-cuda": 0.15, "pi-fp16": 0.15, "pi-int8": 0.15}
_MISSED = "because 12 to 15 networks of nine families are too few for the rate of a single kind of layer"
_DISAGREE = (
    "because the source's boards disagree: a network's times on the other two Raspberry Pis, times one "
    "factor a board, still miss it by {} in the median"
)
_WHY = {"pi-fp16": _DISAGREE.format("16 to 39 %"), "pi-int8": _DISAGREE.format("47 to 54 %")}
_FACTS = ("name", "chip", "cores", "clock_mhz", "kind", "vendor")
_FEW = "{} networks: no rate of a single kind of layer is certain"


def fleet(data: Path, group: str) -> Fleet:
    """Return the boards of one group."""
    runtime, fusion, shape = _GROUPS[group]
    devices = [d for d in _TABLE["devices"] if d["group"] == group]
    wanted = {(d["board"], d["precision"].upper()) for d in devices}

    def row(line: Mapping[str, str]) -> Line | None:
        board, precision = (line["h3"], line["h4"]) if line["h4"] else (line["h2"], line["h3"])
        if line["runtime"] != runtime or (board.strip(), precision) not in wanted or line["ms"] == "-":
            return None
        return board.strip(), line["model"], float(line["ms"])

    path = data / "netspresso" / "device_matrix.csv"
    found, left = read_fleet_table(path, _TABLE["networks"], fusion, row)
    strays = all(d["precision"] == "int8" for d in devices)
    return Fleet(group, fusion, shape, found, _STEPS[group], left_out=left, strays=strays)


def _entries(group: str) -> dict[str, Recipe]:
    return {d["slug"]: _entry(d, group) for d in _TABLE["devices"] if d["group"] == group}


def _entry(device: dict[str, Any], group: str) -> Recipe:
    runtime = _RUNTIMES[_GROUPS[group][0]]
    found: Recipe = {
        "group": group,
        "board": device["board"],
        "description": f"{device['name']}, {device['cores']}, {runtime}, {device['precision']}",
        "device": {key: device[key] for key in _FACTS},
        "runtime": {"name": runtime, "version": device["version"]},
        "precision": device["precision"],
        "threads": 1,
        "limits": {"ram_bytes": device["ram_bytes"]},
        "memory_bytes_per_second": device["memory"],
        "provenance": {
            "source": "NetsPresso Trainer, docs/benchmarks/device_matrix (Nota)",
            "url": "https://github.com/Nota-NetsPresso/netspresso-trainer",
            "licence": "Apache-2.0",
            "facts": "sourced: latencies, precision, JetPack. "
            "recalled: chip, cores, clock, RAM, bandwidth, channel step.",
        },
        "notes": "the source does not state threads and warm-up; written here as 1 thread",
    }
    if group in _ASKED:
        found |= {"asked_relative": _ASKED[group], "marked": True}
        found["missed_why"] = _WHY.get(group, _MISSED)
    else:
        found["status"] = "indicative"
    return found


KINDS = tuple(
    fleet_kind(
        f"netspresso {group}",
        fleet,
        lambda group=group: _entries(group),
        "MACs by kind, activations, weights, launches and calls, log error, boards of one runtime together",
        _GROUPS[group][1],
    )
    for group in _GROUPS
)
