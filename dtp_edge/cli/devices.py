"""dtp-edge devices: what can be named as a device, and how far to trust it."""

from __future__ import annotations

from dataclasses import asdict

import click

from dtp_edge.cli.completion import device_names
from dtp_edge.cli.console import print_json, style, table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False, shell_complete=device_names)
@click.option("--precision", metavar="P", help="Only profiles of this precision: fp32, fp16, int8.")
@click.option("--runtime", metavar="R", help="Only profiles of this runtime.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def devices(name: str | None, precision: str | None, runtime: str | None, as_json: bool) -> None:
    """List the device profiles, or explain the one called NAME.

    \b
    dtp-edge devices --runtime ncnn
    dtp-edge devices rpi4-ncnn-fp32-1t
    """
    from dtp_edge.cli.device_text import describe_profile, device_rows
    from dtp_edge.measure import load_profile

    if name is not None:
        profile = load_profile(name)
        if as_json:
            print_json(profile.document)
        else:
            click.echo(_with_headings(describe_profile(profile)))
        return
    rows = [asdict(row) for row in device_rows(precision=precision, runtime=runtime)]
    if as_json:
        print_json(rows)
        return
    headers = ["name", "chip", "prec.", "thr.", "error", "status"]
    keys = ("name", "chip", "precision", "threads", "error", "status")
    click.echo(table(headers, [[row[key] for key in keys] for row in rows]))
    click.echo("thr.: threads. error: median over held-out networks. host is this machine.")
    click.echo("`dtp-edge devices NAME` explains one.")


def _with_headings(text: str) -> str:
    """Return the text with its headings bold: lines with an indented one below, and the first."""
    lines = text.splitlines()
    below = [*lines[1:], ""]
    return "\n".join(
        style(line, bold=True) if i == 0 or (line[:1].strip() and under.startswith(" ")) else line
        for i, (line, under) in enumerate(zip(lines, below, strict=True))
    )
