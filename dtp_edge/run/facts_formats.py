"""The further formats as report.json has them: what was made, who computes what, and whose memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.cost.planners import PLANNERS, RuntimePlan
from dtp_edge.run.delivery import Delivered
from dtp_edge.runtimes import FormatRow, Placement, advice_for


def format_rows(delivered: Delivered) -> list[dict[str, Any]]:
    """Return a row a file that was asked for, made or not."""
    cost, keep = delivered.cut.task.cost, delivered.cut.keep
    sizes = delivered.cut.task.network.layers.sizes(keep.astype(float))
    return [_row(row, planned_ram(cost, row, sizes)) for row in delivered.formats]


def planned_ram(cost: NetworkCost, row: FormatRow, sizes: np.ndarray) -> float | None:
    """Return the RAM that is predicted for a file: by its runtime's own planner, where that is known.

    A file whose plan is not that of its runtime's kernels (int8 by ExecuTorch) has no prediction.
    """
    if row.runtime not in PLANNERS:
        own = NetworkCost(cost.layers, cost.profile, row.precision)
        return own.evaluate(sizes)["peak_ram_bytes"]
    if row.status == "ok" and row.memory_bytes is None:
        return None
    return float(RuntimePlan(cost.layers, PLANNERS[row.runtime], row.precision).arena_bytes(sizes))


def _row(row: FormatRow, predicted_ram: float | None) -> dict[str, Any]:
    placed = row.placement and placement_facts(row.placement, row.format, tuple(row.rewrites))
    return {
        "format": row.format,
        "precision": row.precision,
        "runtime": row.runtime,
        "version": row.version,
        "status": row.status,
        "detail": row.detail,
        "install": row.install or None,
        "files": list(row.files),
        "bytes": row.bytes,
        "max_abs_diff": row.max_abs_diff,
        "relative_error": row.error,
        "same_top1": row.same_top1,
        "latency_ms": row.latency_ms,
        "rewrites": dict(row.rewrites),
        "memory_bytes": row.memory_bytes,
        "memory_of": row.memory_of or None,
        "predicted_ram_bytes": predicted_ram,
        "placement": placed,
    }


def placement_facts(
    placement: Placement, format_name: str, rewritten: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Return who computes what: the share that the unit takes, and every operator that stays behind."""
    return {
        "unit": placement.unit,
        "by": placement.by,
        "delegated": placement.delegated,
        "operators": len(placement.operators),
        "taken": _kinds(placement),
        "left": [
            {
                "name": o.name,
                "kind": o.kind,
                "share": o.share,
                "change": advice_for(format_name, o.kind, rewritten) or None,
            }
            for o in placement.left
        ],
    }


def _kinds(placement: Placement) -> list[dict[str, Any]]:
    """Return the kinds of operators that the unit takes, with how many there are and their share."""
    found: dict[str, list[float]] = {}
    for one in placement.operators:
        if one.delegated:
            found.setdefault(one.kind, []).append(one.share)
    rows = [{"kind": kind, "count": len(shares), "share": sum(shares)} for kind, shares in found.items()]
    return sorted(rows, key=lambda row: -row["share"])


def failed(delivered: Delivered) -> list[str]:
    """Say which formats were not made, and why."""
    return [
        f"{row.format} {row.precision} was not made ({row.status}): {row.detail}"
        + (f" Install what it needs: `{row.install}`." if row.status == "missing" else "")
        for row in delivered.formats
        if row.status != "ok"
    ]
