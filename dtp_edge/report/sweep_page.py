"""sweep.html and sweep.json: all cells of a sweep on one page, while they run and afterwards."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match

from dtp_edge.errors import InputError
from dtp_edge.files import Bounds, read_json, write_text
from dtp_edge.report import words
from dtp_edge.report.frontier import accuracy_of, devices_of, for_all, headline_of, interval_of, latency_of
from dtp_edge.report.page import render_sweep
from dtp_edge.report.schema import plain

__all__ = ["SWEEP_JSON", "is_sweep", "read_sweep", "sweep_page", "write_sweep"]

SWEEP_JSON, SWEEP_PAGE = "sweep.json", "sweep.html"
FORMAT, VERSION = "dtp_edge.sweep", 1
RELOAD_SECONDS = 10
STATES = ("waiting", "running", "done", "stopped", "failed", "refused")
_OPTIONAL = ("measured_ms", "kept", "channels", "seconds", "phase", "done", "total", "host")
_MOST_BYTES = 64 * 2**20
_BOUNDS = Bounds(values=4_000_000, keys=20_000)
_HINT = "Give the --out folder of a sweep."
_NAME = {"type": "string", "maxLength": 1000}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["format", "version", "state", "started", "devices", "cells"],
    "properties": {
        "format": {"const": FORMAT},
        "version": {"type": "integer", "minimum": 1, "maximum": VERSION},
        "state": {"enum": ["running", "stopped", "done"]},
        "started": _NAME,
        "devices": {
            "type": "array",
            "items": {"type": "object", "required": ["name"], "properties": {"name": _NAME}},
        },
        "cells": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "device", "level", "budget", "recipe", "state"],
                "properties": {
                    "id": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,200}$"},
                    "device": _NAME,
                    "level": {"type": "integer", "minimum": 0},
                    "recipe": _NAME,
                    "state": {"enum": list(STATES)},
                },
            },
        },
    },
}


def is_sweep(folder: str | Path) -> bool:
    """Return whether a folder is that of a sweep."""
    return (Path(folder) / SWEEP_JSON).is_file()


def read_sweep(folder: str | Path) -> dict[str, Any]:
    """Read and check the table of a sweep, given by its folder. Raises `InputError`."""
    path = Path(folder) / SWEEP_JSON
    document = read_json(path, most_bytes=_MOST_BYTES, hint=_HINT, bounds=_BOUNDS)
    faults = itertools.islice(jsonschema.Draft202012Validator(SCHEMA).iter_errors(document), 20)
    if fault := best_match(faults):
        raise InputError(fault.message[:200], where=f"{path}: {fault.json_path}", hint=_HINT)
    return document


def write_sweep(folder: str | Path, document: Mapping[str, Any]) -> Path:
    """Write `sweep.json` and then `sweep.html`, each in one move; return the path of the page."""
    checked = plain({"format": FORMAT, "version": VERSION, **document})
    write_text(Path(folder) / SWEEP_JSON, json.dumps(checked, indent=1, allow_nan=False) + "\n")
    return write_text(Path(folder) / SWEEP_PAGE, sweep_page(checked))


def sweep_page(document: Mapping[str, Any]) -> str:
    """Return the page of a sweep; it loads itself anew while the sweep runs."""
    devices = devices_of(document)
    rows = [_shown(row) for row in document["cells"]]
    counts = {state: sum(row["state"] == state for row in rows) for state in STATES}
    return render_sweep(
        document={**dict.fromkeys(("model", "data", "command", "updated")), **document},
        devices=devices,
        rows=rows,
        counts=counts,
        common=for_all(document),
        headline=headline_of(document["cells"]),
        accuracy_of=accuracy_of,
        latency_of=latency_of,
        reload=RELOAD_SECONDS if document["state"] == "running" else None,
        facts=_facts(document, counts, devices),
        recipes=len({row["recipe"] for row in rows}) > 1,
        data={
            "devices": [_chart(device) for device in devices],
            "headline": asdict(headline_of(document["cells"])),
        },
        states=[state for state in STATES if counts[state]],
        kinds={"done": "good", "failed": "bad", "refused": "warn", "stopped": "warn", "running": "info"},
    )


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table: figures as the page prints them."""
    limit = (row.get("limits") or {}).get("latency_ms")
    total = row.get("total") or 0
    return {
        **dict.fromkeys(_OPTIONAL),
        **row,
        "latency_ms": latency_of(row),
        "limit_ms": limit,
        "top": accuracy_of(row),
        "interval": interval_of(row),
        "control": (row.get("accuracy") or {}).get("control"),
        "share": (row.get("done") or 0) / total if total and row["state"] == "running" else None,
        "says": " ".join(filter(None, (row.get("reason"), row.get("hint"), _length(row)))),
    }


def _length(row: Mapping[str, Any]) -> str:
    length = row.get("length") or 1.0
    return "" if length >= 1 else f"Trained for {words.percent(length, 0)} of its schedule."


def _facts(
    document: Mapping[str, Any], counts: Mapping[str, int], devices: list[dict[str, Any]]
) -> list[dict[str, str]]:
    cells = len(document["cells"])
    facts = [{"value": f"{counts['done']} of {cells}", "name": "cells are done"}]
    for state in ("running", "stopped", "failed", "refused"):
        if counts[state]:
            name = {"refused": "cannot be had"}.get(state, state)
            facts.append({"value": str(counts[state]), "name": name})
    spent = sum(row.get("seconds") or 0.0 for row in document["cells"])
    if spent:
        facts.append({"value": words.seconds(spent), "name": "in cells, all together"})
    fast = [
        row["dense"]["latency_ms"] / (latency_of(row) or 1.0)
        for row in (device["near"] for device in devices)
        if row is not None and (row.get("dense") or {}).get("latency_ms")
    ]
    if fast:
        low, high = f"{min(fast):.1f}", f"{max(fast):.1f}"
        value = f"{low} ×" if low == high else f"{low} to {high} ×"
        facts.append({"value": value, "name": "as fast within a point of the control"})
    return facts


def _chart(device: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the script of the page draws of a device, short."""
    knee = None if device["knee"] is None else device["knee"]["id"]
    points = []
    for row in device["rows"]:
        value, x = accuracy_of(row), latency_of(row)
        if row["state"] != "done" or value is None or x is None:
            continue
        low, high = interval_of(row) or (None, None)
        points.append(
            {"id": row["id"], "x": _digits(x), "y": _digits(value), "low": _digits(low),
             "high": _digits(high),
             "measured": _digits(row.get("measured_ms")), "front": row["id"] in device["front"],
             "knee": row["id"] == knee, "text": words.short(f"{row['budget']}, {row['recipe']}", 60)}
        )  # fmt: skip
    dense = next(
        ({"x": row["dense"].get("latency_ms"), "y": row["accuracy"]["control"]}
         for row in device["rows"]
         if row["state"] == "done" and row.get("dense") and (row["accuracy"] or {}).get("control")),
        None,
    )  # fmt: skip
    return {"error": device.get("relative_error"), "points": points, "dense": dense}


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
