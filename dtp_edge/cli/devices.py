"""dtp-edge devices: what can be named as a device, and how far to trust it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dtp_edge.cli.completion import device_names
from dtp_edge.cli.console import print_json, style, table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False, shell_complete=device_names)
@click.option("--precision", metavar="P", help="Only profiles of this precision: fp32, fp16, int8.")
@click.option("--runtime", metavar="R", help="Only profiles of this runtime.")
@click.option("--vendor", metavar="V", help="Only chips of this vendor.")
@click.option("--npu", "kind", flag_value="npu", help="Only NPUs.")
@click.option("--gpu", "kind", flag_value="gpu", help="Only GPUs.")
@click.option("--cpu", "kind", flag_value="cpu", help="Only CPUs and microcontrollers.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def devices(
    name: str | None,
    precision: str | None,
    runtime: str | None,
    vendor: str | None,
    kind: str | None,
    as_json: bool,
) -> None:
    """List the device profiles, or explain the one called NAME; any other text lists those that have it.

    \b
    dtp-edge devices --npu --vendor qualcomm
    dtp-edge devices jetson
    dtp-edge devices rpi4-ncnn-fp32-1t
    """
    from dtp_edge.cli.device_text import describe_profile, device_rows
    from dtp_edge.measure import load_profile

    filters = {"precision": precision, "runtime": runtime, "vendor": vendor, "kind": kind}
    text = name if name is not None and _is_text(name, any(filters.values())) else None
    if name is not None and text is None:
        profile = load_profile(name)
        if as_json:
            print_json(profile.document)
        else:
            click.echo(_with_headings(describe_profile(profile)))
        return
    rows = [asdict(row) for row in device_rows(**filters, text=text)]
    if as_json:
        print_json(rows)
        return
    headers = ["name", "chip", "prec.", "thr.", "error", "status"]
    keys = ("name", "chip", "precision", "threads", "error", "status")
    click.echo(table(headers, [[row[key] for key in keys] for row in rows]))
    click.echo("thr.: threads. error: median over held-out networks. host is this machine.")
    click.echo("`dtp-edge devices NAME` explains one.")


def _is_text(name: str, filtered: bool) -> bool:
    """Whether a name is a text to look for: no profile and no file has it, and some profile's names contain
    it.
    """
    from dtp_edge.cli.device_text import device_rows
    from dtp_edge.profiles import list_profiles

    if name in ("host", *list_profiles()) or name.endswith(".json") or Path(name).exists():
        return False
    return filtered or any(name.lower() in " ".join(row.texts()).lower() for row in device_rows())


def _with_headings(text: str) -> str:
    """Return the text with its headings bold: lines with an indented one below, and the first."""
    lines = text.splitlines()
    below = [*lines[1:], ""]
    return "\n".join(
        style(line, bold=True) if i == 0 or (line[:1].strip() and under.startswith(" ")) else line
        for i, (line, under) in enumerate(zip(lines, below, strict=True))
    )
