"""The numbers behind the charts, made small enough that the page of a 300-layer network stays light."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dtp_edge.metrics import Headline
from dtp_edge.report import words
from dtp_edge.report.verdict import error_range, interval_of, measured_ratio

MAX_STAIRS = 65
MAX_CURVE = 400


def chart_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the scripts of the page read; names are shortened, figures rounded."""
    return {
        "budgets": [_budget(b) for b in report["budgets"] if b["dense_predicted"]],
        "accuracy": _accuracy(report.get("accuracy")),
        "headline": asdict(Headline.of(report.get("accuracy"))),
        "layers": _layers(report.get("layers") or []),
        "groups": [_group(g) for g in report.get("groups") or []],
        "memory": _memory(report.get("memory")),
        "curves": _curves(report.get("curves") or []),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _budget(budget: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row, every value as a share of the predicted dense one (measured: of the measured)."""
    dense, unit = budget["dense_predicted"], budget["unit"]
    span = error_range(budget)
    ratio = measured_ratio(budget)

    def share(value: float | None) -> float | None:
        return None if value is None else _round(value / dense)

    return {
        "title": words.metric_title(budget["metric"]),
        "limit": share(budget["limit"]),
        "pruned": share(budget["pruned_predicted"]),
        "low": share(span[0]) if span else None,
        "high": share(span[1]) if span else None,
        "measured": _round(ratio),
        "text": f"{words.figure(budget['pruned_predicted'], unit)} of {words.figure(dense, unit)} dense"
        + (f", limit {words.figure(budget['limit'], unit)}" if budget["limit"] is not None else "")
        + (f", measured {words.figure(budget['pruned_measured'], unit)}" if ratio is not None else ""),
    }


def _accuracy(accuracy: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if not accuracy:
        return []
    names = {"base": "Base", "control": "Control", "at_cut": "At the cut", "pruned": "Pruned", "int8": "int8"}
    rows = []
    for key, name in names.items():
        value = accuracy.get(key)
        if value is not None:
            low, high = interval_of(accuracy, key) or (None, None)
            rows.append({"name": name, "value": value, "low": _round(low), "high": _round(high)})
    return rows


def layer_names(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what a person calls each layer; only layers that run by themselves share a module."""
    shared = Counter(layer.get("module") for layer in layers if not layer.get("fused_into"))
    return [words.layer_name(layer, shared) for layer in layers]


def _layers(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the layers that run as a kernel of their own; what is fused into another costs nothing apart."""
    rows, names = [], layer_names(layers)
    for layer, name in zip(layers, names, strict=True):
        dense, pruned = layer.get("dense_latency_ms"), layer.get("pruned_latency_ms")
        if dense is None or pruned is None or (layer.get("fused_into") and not dense and not pruned):
            continue
        rows.append(
            {
                "name": words.short(name, 60),
                "kernel": words.short(layer.get("kernel") or "other", 24),
                "dense": _round(dense),
                "pruned": _round(pruned),
                "shapes": _change(
                    words.shape(layer.get("dense_shape")), words.shape(layer.get("pruned_shape"))
                ),
                "macs": _change(
                    words.figure(layer.get("dense_macs"), "MACs"),
                    words.figure(layer.get("pruned_macs"), "MACs"),
                ),
            }
        )
    return rows


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    following = group.get("next_free_step")
    return {
        "name": words.short(group["name"], 60),
        "kept": group["kept"],
        "total": group["total"],
        "step": group.get("step"),
        "next": following["width"] if following else None,
        "extra": _round(following["extra_latency_ms"]) if following else None,
        "stairs": _stairs(group.get("staircase") or [], group["kept"]),
    }


def _stairs(stairs: Sequence[Mapping[str, Any]], kept: int) -> list[list[float | None]]:
    """Return [width, latency] pairs: every jump of the staircase, thinned evenly if there are very many."""
    rows = sorted((s["width"], _round(s["latency_ms"])) for s in stairs)
    last = len(rows) - 1
    wanted = [
        i
        for i, (width, value) in enumerate(rows)
        if i in (0, last) or width == kept or rows[i - 1][1] != value or rows[i + 1][1] != value
    ]
    if len(wanted) > MAX_STAIRS:
        every = -(-len(wanted) // MAX_STAIRS)
        wanted = [i for n, i in enumerate(wanted) if n % every == 0 or rows[i][0] == kept or i == last]
    return [[rows[i][0], rows[i][1]] for i in wanted]


def _memory(memory: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not memory or not memory["dense"]:
        return None
    most = max(p["live_bytes"] for p in (*memory["dense"], *memory["pruned"]))
    limit = memory.get("limit_bytes")
    return {
        "limit": limit,
        "far": limit is not None and limit > 4 * most,  # drawn, it would flatten the rest
        "dense": [[words.short(p["layer"], 60), _round(p["live_bytes"])] for p in memory["dense"]],
        "pruned": [[words.short(p["layer"], 60), _round(p["live_bytes"])] for p in memory["pruned"]],
    }


def _curves(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the curves on one rising axis (each phase counts from where the last ended), thinned."""
    rows, offset, previous, phase = [], 0, 0, None
    every = -(-len(curves) // MAX_CURVE) if curves else 1
    for i, point in enumerate(curves):
        if point["phase"] != phase and point["step"] < previous:
            offset += previous
        previous, phase = point["step"], point["phase"]
        if i % every and point.get("accuracy") is None and i != len(curves) - 1:
            continue
        keys = ("budget_fraction", "target_fraction", "softness_fraction", "loss", "accuracy")
        values = {key: _round(point.get(key)) for key in keys if point.get(key) is not None}
        rows.append({"step": offset + point["step"], "phase": phase, **values})
    return rows
