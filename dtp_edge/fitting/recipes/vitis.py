"""AMD DPUs from the table of the Vitis AI 2.5 model zoo: frames a second of one thread, end to end.

A frame's time includes what the host does to the picture, so that ratios (a pruned network to its dense one)
say more than milliseconds. The DPU works on 16 input by 16 output channels at a time (DPUCZDX8G B4096,
PG338). Networks of packages count only where their MACs agree with those in the zoo's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtp_edge.fitting.networks import shipped_networks
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
# MACs: 60 % of 2048 a cycle at 300 MHz (B4096); AI engines; eleven cores. DDR4 19 GB/s; HBM on the card
_GROUPS = {
    "edge": Shape(4e11, 1.1e10, 1.1e10, 5.0, 1e6, input=5e8),
    "versal": Shape(1.5e13, 1e11, 6e10, 1.0, 1e6, input=5e8),
    "card": Shape(5e12, 1e11, 1e11, 1.0, 1e6),
}
_PARALLEL, _AGREE = 16, 0.06
_SIZE = re.compile(r"_([\d.]+)([GM])$")


def fleet(data: Path, group: str) -> Fleet:
    """Return the boards of one kind of DPU."""
    devices = [d for d in _TABLE["devices"] if d["shape"] == group]
    column = "fps_multi_or_col5" if group == "card" else "fps_single_or_col4"
    boards = {d["board"] for d in devices}

    def row(line: Mapping[str, str]) -> Line | None:
        if line["board"] not in boards:
            return None
        return line["board"], line["gpu_model_name"], 1e3 / float(line[column])

    path = data / "vitis_ai_2.5" / "perf_unpruned.csv"
    found, left = read_fleet_table(path, _agreeing(), "npu", row)
    fastest = {d["board"]: at_most(d["peak"]) for d in devices if "peak" in d}
    return Fleet(group, "npu", _GROUPS[group], found, {"": channel_steps(_PARALLEL)}, fastest, left_out=left)


def _agreeing() -> dict[str, list[str]]:
    """Return the networks whose MACs are those of the zoo's name, which counts them once or twice."""
    known, kept = shipped_networks(), {}
    for name, (network, family) in _TABLE["networks"].items():
        size = _SIZE.search(name)
        macs = sum(k.kernel.macs * k.count for k in known.get((network, "npu"), ()))
        if size is not None and macs:
            stated = float(size[1]) * {"G": 1e9, "M": 1e6}[size[2]]
            if min(abs(macs * times / stated - 1.0) for times in (1, 2)) <= _AGREE:
                kept[name] = [network, family]
    return kept


def entries() -> dict[str, Recipe]:
    """Return the recipe of every board."""
    return {f"{d['slug']}-int8": _entry(d) for d in _TABLE["devices"]}


def _entry(device: dict[str, Any]) -> Recipe:
    facts = {key: device[key] for key in ("name", "chip", "cores", "clock_mhz")}
    card = device["shape"] == "card"
    found: Recipe = {
        "group": device["shape"],
        "board": device["board"],
        "description": f"{device['name']}, {device['cores']}, Vitis AI 2.5, int8, end to end",
        "device": {**facts, "kind": "npu", "vendor": "AMD"},
        "runtime": {"name": "Vitis AI Runtime", "version": "2.5"},
        "precision": "int8",
        "threads": 1,
        "limits": {"ram_bytes": device["ram_bytes"]},
        "memory_bytes_per_second": 10e9,
        "provenance": {
            "source": "Vitis AI 2.5 model zoo, performance tables",
            "url": "https://github.com/Xilinx/Vitis-AI/tree/2.5/model_zoo",
            "licence": "Apache-2.0",
            "facts": "sourced: frames a second, DPU and clock (zoo). "
            "recalled: chip, RAM, bandwidth, 16 by 16 channels.",
        },
        "asked_relative": 0.15,
        "missed_why": "because the host's share of a frame is not in the table",
        "marked": True,
        "notes": "frames a second end to end: use ratios rather than milliseconds",
    }
    if card:
        found["status"] = "indicative"
        found["notes"] = (
            "1000 / frames a second with all cores busy: a frame's share of the card, not its latency"
        )
    return found


KINDS = (
    fleet_kind(
        "vitis",
        fleet,
        entries,
        "MACs by kind, activations, weights, launches and a frame's own time, log error",
    ),
)
