"""How the commands speak: tables that fit 80 columns, errors with a next step, progress with time left."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from dtp_edge.errors import BudgetError, DtpEdgeError

TITLES = {
    "latency_ms": "latency",
    "peak_ram_bytes": "RAM",
    "flash_bytes": "flash",
    "macs": "MACs",
    "params": "parameters",
}


def style(text: str, **how: Any) -> str:
    """Colour text unless NO_COLOR is set; click strips colours from pipes by itself."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **how)


def quantity(metric: str, value: float | None) -> str:
    """Return a value with its unit, short: 12.3 ms, 256 KiB, 41.2 M."""
    if value is None:
        return "-"
    if metric == "latency_ms":
        return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"
    if metric.endswith("bytes"):
        for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
            if value >= size:
                return f"{value / size:.3g} {unit}" if value < 1000 * size else f"{value / size:.0f} {unit}"
        return f"{value:.0f} B"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    width: int | None = None,
    whole: Sequence[int] = (0,),
) -> str:
    """Return rows as aligned text; wide columns give way until the table fits, but not those `whole`."""
    width = width or min(shutil.get_terminal_size((80, 24)).columns, 100)
    cells = [[str(h) for h in headers], *[[str(c) for c in row] for row in rows]]
    widths = [max(len(click.unstyle(row[i])) for row in cells) for i in range(len(headers))]
    flexible = [i for i in range(len(widths)) if i not in whole]
    while sum(widths) + 2 * (len(widths) - 1) > width and max((widths[i] for i in flexible), default=0) > 6:
        widths[max(flexible, key=lambda i: widths[i])] -= 1
    numeric = [all(_is_number(click.unstyle(row[i])) for row in cells[1:]) for i in range(len(headers))]
    lines = []
    for number, row in enumerate(cells):
        parts = [_fit(c, w, right=n) for c, w, n in zip(row, widths, numeric, strict=True)]
        line = "  ".join(parts).rstrip()
        lines.append(style(line, bold=True) if number == 0 else line)
    return "\n".join(lines)


def _fit(text: str, width: int, *, right: bool) -> str:
    plain = click.unstyle(text)
    if len(plain) > width:
        return plain[: max(width - 1, 1)] + "…"
    space = " " * (width - len(plain))
    return space + text if right else text + space


def _is_number(text: str) -> bool:
    return bool(text) and (text[0].isdigit() or text[0] in "+-±<") and text != "-"


def print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=1, default=str))


def show_error(error: DtpEdgeError) -> None:
    """Print what was wrong, where, and what to do next, on stderr; a budget error brings its table."""
    where = f"{error.where}: " if error.where else ""
    click.echo(f"{style('error:', fg='red', bold=True)} {where}{error.what}", err=True)
    if isinstance(error, BudgetError) and error.rows:
        click.echo(budget_table(error.rows), err=True)
    if error.hint:
        click.echo(f"{style('next:', bold=True)} {error.hint}", err=True)


def budget_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the feasibility rows (metric, asked, smallest, dense, blocked_by) as a table."""
    body = []
    for row in rows:
        metric = str(row["metric"])
        body.append(
            [
                TITLES.get(metric, metric),
                quantity(metric, row.get("asked")),
                quantity(metric, row.get("smallest")),
                quantity(metric, row.get("dense")),
                f"{100 * row['smallest'] / row['dense']:.1f} %" if row.get("dense") else "-",
                row.get("blocked_by") or "",
            ]
        )
    return table(["metric", "asked", "smallest", "dense", "smallest/dense", "what blocks it"], body)


class Bar:
    """A progress bar for each phase of a run, shown once the phase has taken two seconds.

    In a pipe or a log file a finished phase is one line instead.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.phase, self._bar = quiet, None, None

    def __call__(self, phase: str, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        if self.quiet:
            return
        if phase != self.phase:
            self.close()
            self._open(phase, total)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            if info:
                self._bar.set_postfix_str(_postfix(info), refresh=False)
        if done >= total:
            self._finish(phase, total, info or {})

    def _open(self, phase: str, total: int) -> None:
        from tqdm import tqdm

        self.phase = phase
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=phase, delay=2, leave=True, ncols=80, file=sys.stderr)

    def _finish(self, phase: str, total: int, info: Mapping[str, Any]) -> None:
        if self._bar is None:
            click.echo(f"{phase}: {total} steps  {_postfix(info)}".rstrip(), err=True)
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self.phase = None, None


def _postfix(info: Mapping[str, Any]) -> str:
    keys = ("budget", "budget_fraction", "hardness", "loss", "accuracy")
    return " ".join(
        f"{key.removesuffix('_fraction')} {info[key]:.3g}"
        for key in keys
        if isinstance(info.get(key), int | float)
    )
