"""The example report and table of a sweep as of a task that is judged in a unit of its own."""

from __future__ import annotations

import copy
from typing import Any

PSNR = {"metric": "PSNR", "unit": "dB", "decimals": 2, "higher_is_better": True}
ERRORS = {"metric": "character error rate", "unit": "%", "decimals": 1, "higher_is_better": False}


def in_decibels(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report with PSNR in place of top-1: 20 dB and 15 more for all that is right."""
    found = copy.deepcopy(report)
    figures = {k: 20 + 15 * v for k, v in found["accuracy"].items() if isinstance(v, float)}
    found["accuracy"] |= figures | PSNR
    found["accuracy"]["intervals"] = {"pruned": [figures["pruned"] - 0.25, figures["pruned"] + 0.25]}
    for row in found["curves"]:
        if row.get("accuracy") is not None:
            row["accuracy"] = 20 + 15 * row["accuracy"]
    return found


def in_errors(document: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a sweep with the share of errors in place of what is right."""
    found = copy.deepcopy(document)
    for row in found["cells"]:
        if row.get("accuracy"):
            values = {k: 1 - v for k, v in row["accuracy"].items() if isinstance(v, float)}
            row["accuracy"] |= values | ERRORS
    return found
