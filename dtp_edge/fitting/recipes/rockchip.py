"""Rockchip NPUs from the table of its model zoo (RKNN, int8): nearly all YOLO, and a few classifiers.

Channels are taken in blocks: 16 in int8, 32 on the RK3588 and RK3576 (Rockchip's RKNN user guide).
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
    at_most,
    channel_steps,
    fleet_kind,
    read_fleet_table,
)
from dtp_edge.fitting.recipes.kind import Recipe

_TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
_PEAKED = ("conv", "conv1x1", "linear", "matmul", "grouped")


def fleet(data: Path, group: str) -> Fleet:
    """Return the chips of one generation of the NPU."""
    boards = {d["board"] for d in _TABLE["devices"] if d.get("group", "rknn2") == group}

    def row(line: Mapping[str, str]) -> Line | None:
        wanted = line["precision"] == "INT8" and line["device"] in boards
        return (line["device"], line["model"], float(line["latency_ms"])) if wanted else None

    found, left = read_fleet_table(data / "rknn" / "rknn_fps.csv", _TABLE["networks"], "npu", row)
    steps = {
        "": channel_steps(16),
        **{d: channel_steps(32) for d in found if d.startswith(("RK3588", "RK3576"))},
    }
    fastest = {d["board"]: at_most(d["peak"], _PEAKED) for d in _TABLE["devices"]}
    return Fleet(group, "npu", Shape(5e11, 1e10, 1e10, 5.0, 262_144), found, steps, fastest, left_out=left)


def entries() -> dict[str, Recipe]:
    """Return the recipe of every chip."""
    return {d["slug"]: _entry(d) for d in _TABLE["devices"]}


def _entry(device: dict[str, Any]) -> Recipe:
    facts = {key: device[key] for key in ("name", "chip", "clock_mhz")}
    return {
        "group": device.get("group", "rknn2"),
        "board": device["board"],
        "description": f"{device['chip']} NPU, one core, RKNN, int8",
        "device": {**facts, "cores": "NPU, one core", "kind": "npu", "vendor": "Rockchip"},
        "runtime": {"name": "RKNN", "version": "as of rknn_model_zoo@bad6c73"},
        "precision": "int8",
        "threads": 1,
        "limits": {},
        "memory_bytes_per_second": 5e9,
        "provenance": {
            "source": "Rockchip rknn_model_zoo@bad6c73, README",
            "url": "https://github.com/airockchip/rknn_model_zoo",
            "licence": "Apache-2.0",
            "facts": "sourced: frames a second at the NPU's highest clock, one core. "
            "recalled: peak rate (the vendor's TOPS), clock, bandwidth, channel step.",
        },
        "asked_relative": 0.2,
        "missed_why": "because nearly all networks are YOLO, so that a held-out classifier is far from them",
        "marked": True,
        "notes": "detectors that the vendor changed for its NPU (ReLU, no box decoding) are the packages'",
    }


KINDS = (
    fleet_kind(
        "rockchip",
        fleet,
        entries,
        "MACs by kind, activations, weights, launches and calls, log error, all chips",
    ),
)
