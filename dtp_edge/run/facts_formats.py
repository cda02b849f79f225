"""The further formats as report.json has them: what was made, who computes what, and whose memory."""

from __future__ import annotations

from typing import Any

from dtp_edge.run.delivery import Delivered
from dtp_edge.runtimes import FormatRow, Placement, advice_for


def format_rows(delivered: Delivered) -> list[dict[str, Any]]:
    """Return a row a file that was asked for, made or not."""
    cost, keep = delivered.cut.task.cost, delivered.cut.keep
    sizes = delivered.cut.task.network.layers.sizes(keep.astype(float))
    predicted = cost.evaluate(sizes).get("peak_ram_bytes")
    return [_row(row, predicted) for row in delivered.formats]


def _row(row: FormatRow, predicted_ram: float | None) -> dict[str, Any]:
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
        "memory_bytes": row.memory_bytes,
        "memory_of": row.memory_of or None,
        "predicted_ram_bytes": predicted_ram,
        "placement": None if row.placement is None else placement_facts(row.placement, row.format),
    }


def placement_facts(placement: Placement, format_name: str) -> dict[str, Any]:
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
                "change": advice_for(format_name, o.kind) or None,
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
