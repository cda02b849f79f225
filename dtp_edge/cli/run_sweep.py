"""From what was typed to one sweep, or to the plan of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from dtp_edge.cli.console import print_json, quantity, style, table, wrapped
from dtp_edge.cli.run_prune import asked_for, budget_of, named_devices
from dtp_edge.cli.sweep_options import axes, per_cell, seconds_of
from dtp_edge.errors import BudgetError, DtpEdgeError, InputError
from dtp_edge.metrics import Headline

_MOST_LINES = 60  # of a table in a terminal; --json and the page have all
_COLOURS = {"done": "green", "failed": "red", "refused": "yellow", "stopped": "yellow"}


def execute_sweep(request: dict[str, Any], progress: Any) -> Any:
    """Run the sweep of a request, and return its `SweepResult`."""
    from dtp_edge.sweeps.driver import How, run_sweep

    each = per_cell(request["per_cell"])
    how = How(
        jobs=request["jobs"] or 1,
        ray=request["ray"],
        cores=int(each["cores"]) if "cores" in each else None,
        gpus=each.get("gpus", 0.0),
        within_seconds=seconds_of(request["within"]),
        warm=request["warm"],
        resume=request["resume"],
        force=request["force"],
    )
    make, grid, profiles = _asked(request)
    return run_sweep(make, grid, profiles, Path(request["out"]), how, progress)


def plan_sweep_table(request: dict[str, Any], *, as_json: bool) -> None:
    """Print every cell with what it asks and whether that can be had, in one table."""
    from dtp_edge.sweeps.driver import plan_sweep

    depth = request["data"] is not None if request["depth"] is None else request["depth"]
    make, grid, profiles = _asked(request | {"data": None, "depth": depth})
    planned = plan_sweep(make, grid, profiles)
    rows = list(planned.rows)
    if as_json:
        print_json(rows)
    else:
        click.echo(_plan_text(rows))
    if not planned.cells:
        raise BudgetError(
            "no cell of this sweep is feasible", hint="Raise the budgets, or name other devices."
        )


def show_sweep(rows: list[dict[str, Any]], out: Path) -> None:
    """Print the cells of a sweep that has ended, and where its page is."""
    lines = []
    for row in rows[:_MOST_LINES]:
        latency = (row.get("predicted") or {}).get("latency_ms")
        found = row.get("accuracy") or {}
        pruned = found.get("pruned")
        accuracy = "-" if pruned is None else Headline.of(found).text(pruned)
        lines.append([row["id"], _state(row), quantity("latency_ms", latency), accuracy])
    click.echo(table(["cell", "", "latency", "accuracy"], lines, whole=(1, 2, 3)))
    _say_rest(rows)
    for row in [row for row in rows if row.get("reason")][:10]:
        click.echo(wrapped(style(f"{row['id']}:", bold=True), row["reason"], indent=2))
    click.echo(wrapped("page:", str(out / "sweep.html")))


def end_of(rows: list[dict[str, Any]]) -> None:
    """Raise an error with the exit code of the cells that failed, if there are any."""
    failed = [row for row in rows if row["state"] == "failed"]
    if not failed:
        return
    error = DtpEdgeError(
        f"{len(failed)} of {len(rows)} cells failed",
        hint="The page says why of each; --resume tries them again.",
    )
    error.exit_code = max(int(row.get("exit_code") or 4) for row in failed)
    raise error


def _asked(request: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
    """Return what makes the subject, the grid and the profiles, as typed and as the file has them."""
    from dtp_edge.measure import load_profile
    from dtp_edge.sweeps.grid import USUAL, Grid
    from dtp_edge.sweeps.grid_file import read_grid
    from dtp_edge.transport import Budget

    devices, typed = axes(request)
    from_file = read_grid(Path(request["sweep"])) if request["sweep"] else {}
    devices = devices or from_file.get("devices", [])
    common = {"keep": request["keep"]} if request["keep"] else {}
    alone = [common] if common and not typed and not from_file.get("budgets") else []
    chosen = [budget_of({"budget": one | common}, Budget) for one in typed or alone]
    budgets = chosen or [Budget(**one) for one in from_file.get("budgets", [])]
    if not devices or not budgets:
        what = "budget" if devices else "device"
        raise InputError(
            f"the sweep names no {what}", hint=f"Give --{what if not devices else 'latency'}, or in the file."
        )
    recipes = from_file.get("recipes") or {USUAL: {}}
    if request["data"] is None and not request["plan"] and any(recipes.values()):
        raise InputError("recipes need --data", where=str(request["sweep"]), hint="They say how to train.")
    profiles = [load_profile(name) for name in named_devices(devices)]
    grid = Grid(tuple(profile.name for profile in profiles), tuple(budgets), recipes)
    return partial(_subject, {**request, "sweep_budget": budgets[0]}), grid, profiles


def _subject(request: dict[str, Any]) -> Any:
    """Build what the sweep is about, in whatever process needs it."""
    from dtp_edge.sweeps.common import Subject

    return Subject(*asked_for(request, request["sweep_budget"]))


def _plan_text(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows[:_MOST_LINES]:
        asked = ", ".join(quantity(m, v) for m, v in (row.get("limits") or {}).items())
        smallest = (row.get("smallest") or {}).get("latency_ms")
        lines.append(
            [row["device"], row["budget"], row["recipe"], asked or "-",
             "yes" if row["state"] != "refused" else style("no", fg="red"),
             "" if smallest is None else f"smallest {quantity('latency_ms', smallest)}"]
        )  # fmt: skip
    text = table(["device", "budget", "recipe", "asked", "can be had", ""], lines, whole=(4,))
    refused = [row for row in rows if row["state"] == "refused"]
    reasons = list(dict.fromkeys(row["reason"] for row in refused))[:10]
    more = (
        [] if len(rows) <= _MOST_LINES else [f"… and {len(rows) - _MOST_LINES} more cells (--json has all)"]
    )
    last = f"{len(rows)} cells, {len(refused)} of them cannot be had."
    return "\n".join([text, *more, last, *(wrapped("no:", reason, indent=2) for reason in reasons)])


def _state(row: dict[str, Any]) -> str:
    return style(row["state"], fg=_COLOURS.get(row["state"]))


def _say_rest(rows: list[dict[str, Any]]) -> None:
    if len(rows) > _MOST_LINES:
        click.echo(f"… and {len(rows) - _MOST_LINES} more cells (the page has all)")
