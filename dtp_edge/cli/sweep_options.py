"""The options of a run with many cells, and what makes it one: several devices or budgets, or --sweep."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from dtp_edge.cli.completion import files
from dtp_edge.errors import InputError

NAMES = ("sweep", "jobs", "ray", "within", "per_cell", "warm")
_SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for option in reversed(
        (
            click.option(
                "--sweep", metavar="FILE", shell_complete=files, help="Devices, budgets and recipes in TOML."
            ),
            click.option(
                "--jobs",
                type=click.IntRange(1),
                metavar="N",
                help="Cells at a time, in processes of their own.",
            ),
            click.option(
                "--ray", metavar="ADDRESS", help="Run cells on a Ray cluster that sees --out; auto."
            ),
            click.option("--within", metavar="TIME", help="Stop after 90min or 2h; coarse points first."),
            click.option("--per-cell", metavar="X", help="Of each cell: cores=2,gpus=0.5."),
            click.option(
                "--warm", is_flag=True, help="Start each cell from the next looser cell's masks and weights."
            ),
        )
    ):
        command = option(command)
    return command


def is_many(request: Mapping[str, Any]) -> bool:
    """Return whether a request has several cells; several devices alone with --plan are a plan."""
    if any(request[name] for name in NAMES) or any("," in text for text in _budgets(request).values()):
        return True
    several = "," in (request["device"] or "") or request["device"] == "all"
    return several and not request["plan"]


def axes(request: Mapping[str, Any]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the devices that were typed, and every budget: what was typed of each metric, combined."""
    devices = [name.strip() for name in (request["device"] or "").split(",") if name.strip()]
    lists = {name: _listed(name, text) for name, text in _budgets(request).items()}
    chosen = [dict(zip(lists, found, strict=True)) for found in itertools.product(*lists.values())]
    return devices, chosen if lists else []


def _listed(name: str, text: str) -> list[str]:
    """Return the budgets of a list. Raises `InputError` for two units in one: 60,5% is meant as 60.5%."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len({part.lstrip("0123456789.eE+- ") for part in parts}) > 1:
        hint = (
            "Write a decimal with a point (60.5%), and every budget of a list with the same unit (70%,50%)."
        )
        raise InputError(f"cannot read {text!r}", where=f"--{name}", hint=hint)
    return parts


def seconds_of(text: str | None) -> float | None:
    """Return a time such as `90min`, `2h`, `1h 30min` in seconds. Raises `InputError`."""
    if text is None:
        return None
    parts = _TIME.findall(text)
    if not parts or _TIME.sub("", text).strip():
        raise InputError(f"cannot read {text!r}", where="--within", hint="Write 90min or 2h.")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def per_cell(text: str | None) -> dict[str, float]:
    """Return `{cores, gpus}` of `cores=2,gpus=0.5`, each only where it was given. Raises `InputError`."""
    found: dict[str, float] = {}
    for part in filter(None, (text or "").split(",")):
        name, _, value = part.strip().partition("=")
        number = float(value) if re.fullmatch(r"\d+(\.\d+)?", value.strip()) else -1.0
        if name not in ("cores", "gpus") or number < 0 or (name == "cores" and (number < 1 or number % 1)):
            raise InputError(f"cannot read {part!r}", where="--per-cell", hint="Write cores=2,gpus=0.5.")
        found[name] = number
    return found


def _budgets(request: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: request[name]
        for name in ("latency", "ram", "flash", "macs", "params", "energy")
        if request[name]
    }
