"""What `profile import` could join, and what not, with its share of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dtp_edge.cli.console import table, wrapped

if TYPE_CHECKING:
    from dtp_edge.measure.printout_join import Joined

FEW = 5


def show_import(joined: Sequence[Joined], *, verbose: bool) -> None:
    """Print a line a network, and the rows that found no layer, the longest first."""
    for one in joined:
        rows = sum(one.by.values())
        by = ", ".join(f"{count} by {how}" for how, count in one.by.items() if count)
        text = f"{rows} of {len(one.printout.rows)} rows joined ({by}), {1 - one.loose_share:.1%} of the time"
        click.echo(wrapped(f"{one.model}:", text))
        loose = sorted(one.loose, key=lambda row: -row.share)
        shown = loose if verbose else loose[:FEW]
        if shown:
            cells = [[f"{row.share:.1%}", row.row.names[0][:40], row.row.type[:20], row.why] for row in shown]
            click.echo(table(["share", "no layer for", "type", "why"], cells))
        if len(loose) > len(shown):
            rest = sum(row.share for row in loose[FEW:])
            click.echo(f"and {len(loose) - FEW} more, {rest:.1%} of the time (-v shows all)")
