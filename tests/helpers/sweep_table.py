"""A made-up table of a sweep, as large as a test needs."""

from __future__ import annotations

import random
from typing import Any


def sweep_table(devices: int, budgets: int, state: str = "done") -> dict[str, Any]:
    """Return the table of `devices` times `budgets` cells; about every tenth failed."""
    draw = random.Random(0)
    names = [f"device-{i}-ncnn-fp32-1t" for i in range(devices)]
    cells = []
    for device in names:
        for level in range(budgets):
            share = (level + 1) / budgets
            row: dict[str, Any] = {
                "id": f"{device}_latency-{100 * share:.1f}pct", "device": device, "level": level,
                "budget": f"latency {100 * share:.1f}%", "recipe": "usual", "state": "done",
                "limits": {"latency_ms": 10 * share}, "dense": {"latency_ms": 10.0},
            }  # fmt: skip
            if level % 10 == 7:
                row |= {
                    "state": "failed",
                    "reason": "the loss is no longer finite",
                    "hint": "Lower the rate.",
                }
            else:
                accuracy = 0.93 * (1 - 0.5 * (1 - share) ** 3) + draw.gauss(0, 0.004)
                row |= {
                    "predicted": {"latency_ms": 9.9 * share}, "measured_ms": 10 * share, "seconds": 1000.0,
                    "accuracy": {"control": 0.925, "pruned": accuracy, "int8": None, "n_test": 10000},
                    "kept": 300, "channels": 688,
                    "on_devices": {other: {"latency_ms": 9.9 * share} for other in names},
                }  # fmt: skip
            cells.append(row)
    return {
        "state": state, "started": "2026-11-29T01:00:00+00:00", "updated": "2026-11-29T02:00:00+00:00",
        "model": "resnet20", "data": "cifar10", "command": "prune-for-device resnet20 --device a,b",
        "devices": [
            {"name": n, "title": n, "runtime": "ncnn", "error_text": "8 %", "relative_error": 0.08}
            for n in names
        ],
        "cells": cells,
    }  # fmt: skip
