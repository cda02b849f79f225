"""Reports of older versions in the words of this one."""

from __future__ import annotations

from typing import Any

__all__ = ["upgraded"]


def upgraded(report: Any) -> Any:
    """Return a report as read from a file with the fields of today; what is no report stays as it is.

    Up to 1.1 the curves had `hardness`, 1 for hard masks; since 1.2 `softness_fraction`, 0 for hard masks.
    """
    if not isinstance(report, dict) or not isinstance(report.get("curves"), list):
        return report
    curves = [_curve_row(row) for row in report["curves"]]
    return report if curves == report["curves"] else report | {"curves": curves, "schema_version": "1.4"}


def _curve_row(row: Any) -> Any:
    if not isinstance(row, dict) or "hardness" not in row:
        return row
    found = {key: value for key, value in row.items() if key != "hardness"}
    hardness = row["hardness"]
    number = isinstance(hardness, (int, float)) and not isinstance(hardness, bool)
    return found | {"softness_fraction": 1.0 - hardness if number else hardness}
