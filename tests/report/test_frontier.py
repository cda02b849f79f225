"""Fronts, knees and the network for all boards, against plain reckoning."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from dtp_edge.report.frontier import devices_of, for_all, front, front_gain, knee, near


def row(name: str, latency: float, accuracy: float, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": name, "device": "a", "level": 0, "budget": "latency 50%", "recipe": "usual", "state": "done",
        "predicted": {"latency_ms": latency}, "limits": {"latency_ms": latency},
        "accuracy": {"pruned": accuracy, "int8": None, "control": 0.95, "n_test": 100},
    }  # fmt: skip
    return found | more


def test_the_front_is_what_nothing_beats() -> None:
    random.seed(1)
    rows = [row(str(i), random.randint(1, 12), random.randint(1, 12) / 12) for i in range(60)]

    def beaten(one: dict[str, Any]) -> bool:
        mine = one["predicted"]["latency_ms"], -one["accuracy"]["pruned"]
        others = ((r["predicted"]["latency_ms"], -r["accuracy"]["pruned"]) for r in rows)
        return any(o != mine and o[0] <= mine[0] and o[1] <= mine[1] for o in others)

    found = front(rows)
    wanted = {(r["predicted"]["latency_ms"], r["accuracy"]["pruned"]) for r in rows if not beaten(r)}
    assert [(r["predicted"]["latency_ms"], r["accuracy"]["pruned"]) for r in found] == sorted(wanted)


def test_int8_is_what_is_delivered() -> None:
    better = row("a", 1.0, 0.9)
    better["accuracy"]["int8"] = 0.5
    assert [r["id"] for r in front([better, row("b", 1.0, 0.8)])] == ["b"]


def test_the_knee_is_furthest_above_the_line_between_the_ends() -> None:
    points = [row(n, x, y) for n, x, y in (("a", 1, 0.50), ("b", 2, 0.85), ("c", 4, 0.88), ("d", 9, 0.90))]
    found = knee(points)
    assert found is not None
    assert found["id"] == "b"
    straight = [row(str(i), i, i / 10) for i in range(1, 5)]
    assert knee(straight) is None
    assert knee(points[:2]) is None


def test_near_the_control_is_the_fastest_that_loses_a_point_at_most() -> None:
    points = [row("a", 1, 0.90), row("b", 2, 0.941), row("c", 3, 0.96)]
    found = near(points)
    assert found is not None
    assert found["id"] == "b"
    assert near(points[:1]) is None
    for point in points:  # another unit has no points
        point["accuracy"] |= {"metric": "PSNR", "unit": "dB", "higher_is_better": True}
    assert near(points) is None


def test_what_a_cell_adds_to_the_front() -> None:
    cells = [row("a", 1, 0.5), row("b", 2, 0.7), row("c", 3, 0.6), row("d", 4, 0.8)]
    found = [front_gain(cell, cells) for cell in cells]
    assert found == pytest.approx([(0.8 - 0.5) / 3, 0.2, -0.1, 0.1])
    assert front_gain(cells[0], cells[:1]) == 0.0


def document(limits: dict[str, dict[str, float]], cells: list[dict[str, Any]]) -> dict[str, Any]:
    return {"devices": [{"name": name} for name in limits], "cells": cells}


def priced(
    name: str, device: str, level: int, accuracy: float, on: dict[str, float], limit: float
) -> dict[str, Any]:
    costs = {d: {"latency_ms": ms} for d, ms in on.items()}
    return row(
        name, on[device], accuracy, device=device, level=level, on_devices=costs, limits={"latency_ms": limit}
    )


@pytest.mark.parametrize("fits", list(itertools.product([True, False], repeat=2)))
def test_one_network_for_all_meets_every_limit(fits: tuple[bool, bool]) -> None:
    cells = [
        priced("on-a", "a", 0, 0.90, {"a": 5.0, "b": 8.0 if fits[0] else 8.1}, 5.0),
        priced("on-b", "b", 0, 0.80, {"a": 5.0 if fits[1] else 5.1, "b": 8.0}, 8.0),
    ]
    (found,) = for_all(document({"a": {}, "b": {}}, cells))
    wanted = "on-a" if fits[0] else "on-b" if fits[1] else None
    assert (found["cell"] or {}).get("id") == wanted
    if wanted == "on-b":
        assert found["worst"]["device"] == "a"
        assert found["worst"]["points"] == pytest.approx(-0.10)


def test_a_device_that_cannot_have_the_budget_is_named() -> None:
    cells = [
        priced("on-a", "a", 0, 0.90, {"a": 5.0, "b": 8.0}, 5.0),
        row("on-b", 1, 0.5, device="b", state="refused"),
    ]
    (found,) = for_all(document({"a": {}, "b": {}}, cells))
    assert found["without"] == ["b"]
    assert found["cell"]["id"] == "on-a"
    assert for_all(document({"a": {}}, cells[:1])) == []


def test_cells_that_are_not_done_are_on_no_front() -> None:
    cells = [row("x", 1, 0.5), row("y", 2, 0.9, state="failed")]
    (found,) = devices_of(document({"a": {}}, cells))
    assert found["front"] == ["x"]
    assert len(found["rows"]) == 2
