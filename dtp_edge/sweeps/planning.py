"""Every cell before anything runs: what its budget asks of its device, and whether that can be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dtp_edge.errors import BudgetError, DtpEdgeError
from dtp_edge.profiles import Profile
from dtp_edge.run.options import Options, refuse_int8
from dtp_edge.run.task import Task
from dtp_edge.run.traced import Traced
from dtp_edge.sweeps.grid import Cell, Grid, in_order
from dtp_edge.transport import require_feasible

__all__ = ["Planned", "plan_cells"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """`cells` can be had and stand in the order in which they are run; `rows` has one for every cell."""

    cells: tuple[Cell, ...]
    rows: tuple[Row, ...]


def plan_cells(
    traced: Traced, profiles: Mapping[str, Profile], grid: Grid, options: Options, *, warm: bool = False
) -> Planned:
    """Price every cell. One that cannot be had is refused with the reason, in its row, and left out."""
    rows, open_ = {}, []
    every: dict[str, list[Cell]] = {}
    for cell in grid.cells():
        every.setdefault(cell.device, []).append(cell)
    for device, cells in every.items():
        profile = profiles[device]
        try:
            if options.int8:
                refuse_int8(profile, options.data)
            task = Task.of_traced(traced, profile, cells[0].budget, options.planner())
        except DtpEdgeError as error:
            rows |= {cell.id: _row(cell) | refusal(error) for cell in cells}
            continue
        for cell in cells:
            tight, rows[cell.id] = _planned(task, cell)
            if rows[cell.id]["state"] != "refused":
                open_.append(replace(cell, tightness=tight))
    ordered = in_order(open_, warm=warm)
    for cell in ordered:
        rows[cell.id]["begins_with"] = cell.parent
    return Planned(tuple(ordered), tuple(rows.values()))


def refusal(error: DtpEdgeError, state: str = "refused") -> Row:
    """Return what a row says of a cell that an error ended."""
    reason = error.what if error.where is None else f"{error.where}: {error.what}"
    return {"state": state, "reason": reason, "hint": error.hint, "exit_code": error.exit_code}


def _planned(task: Task, cell: Cell) -> tuple[float, Row]:
    row = _row(cell)
    try:
        task = task.within(cell.budget)
        require_feasible(task.network, task.cost, task.limits)
    except BudgetError as error:
        smallest = {str(one["metric"]): one["smallest"] for one in error.rows}
        return 1.0, row | _figures(task) | {"smallest": smallest} | refusal(error)
    except DtpEdgeError as error:
        return 1.0, row | refusal(error)
    found = row | _figures(task)
    shares = [limit / found["dense"][m] for m, limit in task.limits.items() if found["dense"].get(m)]
    return min((*shares, *task.layer_keep.values()), default=1.0), found


def _row(cell: Cell) -> Row:
    return {
        "id": cell.id,
        "device": cell.device,
        "level": cell.level,
        "budget": str(cell.budget),
        "recipe": cell.recipe,
        "state": "waiting",
    }


def _figures(task: Task) -> Row:
    dense = task.cost.evaluate(task.cost.dense_sizes())
    return {"limits": dict(task.limits), "dense": {metric: dense[metric] for metric in task.cost.metrics}}


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many rows are in each state."""
    found: dict[str, int] = {}
    for row in rows:
        found[row["state"]] = found.get(row["state"], 0) + 1
    return found
