"""A plan in the terminal: one device whole, or one line each of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from dtp_edge import metrics
from dtp_edge.cli.console import blocked, budget_table, quantity, style, table, wrapped


def show_plans(plans: Sequence[dict[str, Any]], *, verbose: bool) -> None:
    """Print what the budget asks of every device, and what can be had."""
    if len(plans) > 1 and not verbose:
        _show_fleet(plans)
    else:
        for entry in plans:
            _show_plan(entry, verbose=verbose)
    _say_slack(plans)


def _show_plan(entry: dict[str, Any], *, verbose: bool) -> None:
    click.echo(f"{style(entry['device'], bold=True)}  {_feasible(entry)}  {entry['error_text']}".rstrip())
    click.echo(budget_table(entry["rows"]))
    for text in blocked(entry["rows"]):
        click.echo(text)
    for text in entry["warnings"]:
        click.echo(wrapped(style("warning:", fg="yellow"), text))
    if entry["feasible"]:
        used = ", ".join(f"{metrics.title(m)} {quantity(m, v)}" for m, v in entry["expected"].items())
        click.echo(wrapped("expected:", used))
        cut = [
            (name, f"{kept}/{total}")
            for name, (kept, total) in entry["widths"].items()
            if kept < total or verbose
        ]
        shown = cut if verbose else cut[:8]
        if shown:
            click.echo(table(["group", "kept"], shown))
        if len(cut) > len(shown):
            rest = len(cut) - len(shown)
            click.echo(f"… and {rest} more group{'' if rest == 1 else 's'} (-v shows all)")
    click.echo("")


def _say_slack(plans: Sequence[dict[str, Any]]) -> None:
    """Say so where a budget asks for nothing: `50` is milliseconds, `50%` a share."""
    for entry in plans:
        asked = [row for row in entry["rows"] if row["asked"] is not None]
        if asked and all(row["asked"] >= row["dense"] for row in asked):
            text = "what is asked is at or above the dense network's cost, so nothing has to be pruned for"
            text += f" {entry['device']}. A share is written with a percent sign: 50%."
            click.echo(wrapped(style("note:", bold=True), text))


def _feasible(entry: dict[str, Any]) -> str:
    return style("feasible", fg="green") if entry["feasible"] else style("cannot be reached", fg="red")


def _show_fleet(plans: Sequence[dict[str, Any]]) -> None:
    """Print one line a device: what is asked, what could be had, what is expected."""
    rows = []
    for entry in plans:
        if "refused" in entry:
            rows.append([entry["device"], "cannot be costed", "-", "-", style("no", fg="red")])
        for row in entry["rows"]:
            if row["asked"] is None:
                continue
            metric = row["metric"]
            expected = quantity(metric, entry["expected"].get(metric)) + " ?" * bool(entry["warnings"])
            asked = [quantity(metric, row[key]) for key in ("smallest", "asked")]
            outcome = expected if row["feasible"] else style("no", fg="red")
            rows.append([entry["device"], metrics.title(metric), *asked, outcome])
    headers = ["device", "metric", "smallest", "asked", "expected"]
    click.echo(table(headers, rows, whole=range(len(headers))))
    if any(entry["warnings"] for entry in plans):
        click.echo("? the network lies outside of what the profile was measured on; -v says of which layers.")
    click.echo("-v shows every device with its widths.")
