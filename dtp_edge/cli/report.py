"""dtp-edge report: one run again, or several compared."""

from __future__ import annotations

import click

from dtp_edge.cli.completion import folders
from dtp_edge.cli.console import print_json


@click.command(
    short_help="Write the page of a run again, or compare several.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("directories", metavar="DIR [DIR …]", nargs=-1, required=True, shell_complete=folders)
@click.option("--out", metavar="FILE", default="comparison.html", show_default=True, help="Page to write.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def report(directories: tuple[str, ...], out: str, as_json: bool) -> None:
    """Write the page of one run or sweep again, or compare several runs and draw accuracy against latency.

    \b
    dtp-edge report runs/r20
    dtp-edge report runs/r20-60 runs/r20-45 runs/r20-30 --out pareto.html
    """
    from dtp_edge.report import (
        compare_reports,
        is_sweep,
        read_report,
        read_sweep,
        write_report,
        write_sweep,
    )

    if len(directories) == 1 and is_sweep(directories[0]):
        found = read_sweep(directories[0])
        if as_json:
            print_json(found)
        else:
            click.echo(f"wrote {write_sweep(directories[0], found)}")
        return
    if len(directories) == 1:
        data = read_report(directories[0])
        if as_json:
            print_json(data)
        else:
            click.echo(f"wrote {write_report(directories[0], data)}")
        return
    comparison = compare_reports(directories)
    comparison.write(out)
    if as_json:
        print_json(comparison.rows)
    else:
        click.echo(comparison.table)
        click.echo(f"wrote {out}")
