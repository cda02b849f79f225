"""What the cells of a sweep amount to: each device's front, its knee, and one network for all devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dtp_edge.metrics import Headline
from dtp_edge.report import verdict

__all__ = [
    "accuracy_of", "devices_of", "for_all", "front", "front_gain", "headline_of", "interval_of", "knee",
    "latency_of", "near",
]  # fmt: skip

Row = Mapping[str, Any]
NEAR = 0.01  # one point of a share


def accuracy_of(row: Row) -> float | None:
    """Return the headline of what is delivered: of the int8 file where there is one."""
    found = row.get("accuracy") or {}
    return found.get(_delivered(row))


def headline_of(rows: Sequence[Row]) -> Headline:
    """Return what the cells are judged by."""
    found = [row["accuracy"] for row in rows if (row.get("accuracy") or {}).get("metric")]
    return Headline.of(found[0] if found else None)


def _delivered(row: Row) -> str:
    return "pruned" if (row.get("accuracy") or {}).get("int8") is None else "int8"


def _worth(row: Row) -> float:
    """Return a number that is larger the better a cell is."""
    return Headline.of(row.get("accuracy")).worth(accuracy_of(row))


def interval_of(row: Row) -> tuple[float, float] | None:
    """Return the 95 % interval that the test samples leave, where there is one."""
    found = row.get("accuracy") or {}
    return None if accuracy_of(row) is None else verdict.interval_of(found, _delivered(row))


def latency_of(row: Row) -> float | None:
    return (row.get("predicted") or {}).get("latency_ms")


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one device that none is both as fast and as accurate as, fastest first."""
    known = [r for r in rows if latency_of(r) is not None and accuracy_of(r) is not None]
    found: list[Row] = []
    for row in sorted(known, key=lambda r: (latency_of(r), -_worth(r))):
        if not found or _worth(row) > _worth(found[-1]):
            found.append(row)
    return found


def front_gain(row: Row, others: Sequence[Row]) -> float:
    """Return the accuracy of a cell less the best of the others on its device that are at least as fast.

    Below 0 it is on no front. Where none is as fast, it is the mean step from it up the front: the end of
    a front is worth as much as any other part of it.
    """
    mine, latency = _worth(row), latency_of(row) or 0.0
    rest = [o for o in others if o != row]
    faster = [_worth(o) for o in rest if (latency_of(o) or 0.0) <= latency]
    if faster:
        return mine - max(faster)
    return (max((_worth(o) for o in rest), default=mine) - mine) / max(1, len(rest))


def knee(points: Sequence[Row]) -> Row | None:
    """Return the point of a front beyond which accuracy costs the most time; None of fewer than three.

    It is the one furthest above the line between the front's ends, both axes scaled to 0..1 (Satopää et al.,
    "Finding a Kneedle in a Haystack", 2011). None where no point is above that line.
    """
    if len(points) < 3:
        return None
    x, y = [latency_of(p) or 0.0 for p in points], [_worth(p) for p in points]
    wide, high = x[-1] - x[0], y[-1] - y[0]
    if wide <= 0 or high <= 0:
        return None
    above = [(b - y[0]) / high - (a - x[0]) / wide for a, b in zip(x, y, strict=True)]
    best = max(range(len(points)), key=above.__getitem__)
    return points[best] if above[best] > 0 else None


def near(points: Sequence[Row]) -> Row | None:
    """Return the fastest point of a front that loses at most `NEAR` against its control; None of other units
    than shares, where that would mean nothing."""
    for row in points:
        control = (row.get("accuracy") or {}).get("control")
        headline = Headline.of(row.get("accuracy"))
        if headline.unit != "%" or control is None:
            continue
        if _worth(row) >= headline.worth(control) - NEAR:
            return row
    return None


def devices_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every device with its `rows`, the ids of its `front`, and its `knee` and `near`, if any."""
    rows: dict[str, list[Row]] = {}
    for row in document["cells"]:
        rows.setdefault(row["device"], []).append(row)
    found = []
    for device in document["devices"]:
        own = rows.get(device["name"], [])
        best = front([row for row in own if row["state"] == "done"])
        found.append(
            {
                **dict.fromkeys(("title", "runtime", "error_text")),
                **device,
                "rows": own,
                "front": [row["id"] for row in best],
                "knee": knee(best),
                "near": near(best),
            }
        )
    return found


def for_all(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return an entry a budget: the cell that meets it on all devices, and what it costs against one each.

    `cell` is the best of those that meet the limits of every device (None: there is none), `costs` has a row
    a device: `device`, `accuracy` of its own best cell, `points` by which the common one differs, in the
    headline's own measure, `latency_ms` of both on it; `worst` is the one that loses most. `without` names
    the devices on which the budget cannot be had at all.
    """
    if len(document["devices"]) < 2:
        return []
    done = [row for row in document["cells"] if row["state"] == "done"]
    found = []
    for level in sorted({row["level"] for row in document["cells"]}):
        asked = [row for row in document["cells"] if row["level"] == level]
        limits = {row["device"]: row["limits"] for row in asked if row["state"] != "refused"}
        without = sorted({row["device"] for row in asked} - set(limits))
        fits = [row for row in done if _meets(row, limits)] if limits else []
        best = max(fits, key=lambda r: (_worth(r), -(latency_of(r) or 0.0)), default=None)
        own = {name: _best_of(done, name, level) for name in limits}
        costs = [] if best is None else [_cost(best, name, row) for name, row in own.items()]
        lost = [cost for cost in costs if cost["points"] is not None]
        headline = headline_of(done)
        found.append(
            {
                "budget": asked[0]["budget"],
                "cell": best,
                "accuracy": None if best is None else accuracy_of(best),
                "costs": costs,
                "worst": min(lost, key=lambda cost: headline.worth(cost["points"]), default=None),
                "without": without,
                "open": sum(row["state"] in ("waiting", "running") for row in asked),
            }
        )
    return found


def _meets(row: Row, limits: Mapping[str, Mapping[str, float]]) -> bool:
    costs = row.get("on_devices") or {}
    return all(
        name in costs and all(costs[name].get(metric, 0.0) <= limit for metric, limit in asked.items())
        for name, asked in limits.items()
    )


def _best_of(done: Sequence[Row], device: str, level: int) -> Row | None:
    own = [row for row in done if row["device"] == device and row["level"] == level]
    return max(own, key=_worth, default=None)


def _cost(best: Row, device: str, own: Row | None) -> dict[str, Any]:
    mine, its = accuracy_of(best), None if own is None else accuracy_of(own)
    return {
        "device": device,
        "accuracy": its,
        "points": None if mine is None or its is None else mine - its,
        "latency_ms": best["on_devices"][device].get("latency_ms"),
        "own_latency_ms": None if own is None else latency_of(own),
    }
