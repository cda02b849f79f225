"""How the commands speak: tables that fit 80 columns, errors with a next step."""

from __future__ import annotations

import json
import os
import re
import shutil
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dtp_edge import metrics
from dtp_edge.errors import BudgetError, DtpEdgeError

_GLUE = "\x1f"
_PACKAGE = Path(__file__).resolve().parents[1]
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:ms|µs|[KMGT]?i?B)\b|%)")


def style(text: str, **how: Any) -> str:
    """Colour text unless NO_COLOR is set; click strips colours from pipes by itself."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **how)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Inside, warnings of this package are lines of the command; those of others stay as they are."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
            if category is UserWarning and Path(filename).resolve().is_relative_to(_PACKAGE):
                click.echo(wrapped(style("warning:", fg="yellow"), str(message)), err=True)
            else:
                before(message, category, filename, *rest)

        warnings.showwarning = show
        yield


def quantity(metric: str, value: float | None) -> str:
    """Return a value with its unit, short: 12.3 ms, 256 KiB, 41.2 M; "-" for none."""
    return "-" if value is None else metrics.quantity(metric, value)


def columns() -> int:
    """Return how wide text may be: the terminal's width between 40 and 100, 80 in a pipe."""
    return max(40, min(shutil.get_terminal_size((80, 24)).columns, 100))


def wrapped(label: str, text: str, *, indent: int | None = None) -> str:
    """Return `label text`, folded at the terminal's width; further lines start under the text.

    A path or a hash is never cut, a number keeps its unit, and a line of `text` that begins with a space
    stays as it is, so that a command in it can be copied.
    """
    start = len(click.unstyle(label)) + 1
    hang = " " * (start if indent is None else indent)
    lines: list[str] = []
    for line in text.splitlines():
        first = hang if lines else " " * start
        folded = textwrap.wrap(
            _BEFORE_UNIT.sub(_GLUE, line),
            columns(),
            initial_indent=first,
            subsequent_indent=hang,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [line] if line.startswith(" ") and lines else [one.replace(_GLUE, " ") for one in folded]
    return label + "\n".join(lines)[start - 1 :]


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    width: int | None = None,
    whole: Sequence[int] = (0,),
) -> str:
    """Return rows as aligned text; wide columns give way until the table fits, but not those `whole`."""
    width = width or columns()
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
    say("error:", f"{where}{error.what}", fg="red", bold=True)
    if isinstance(error, BudgetError) and error.rows:
        click.echo(budget_table(error.rows), err=True)
        for text in blocked(error.rows):
            click.echo(text, err=True)
    if error.hint:
        say("next:", error.hint, bold=True)


def say(label: str, text: str, **how: Any) -> None:
    """Print `label text` on stderr, folded, the label in colour."""
    click.echo(wrapped(style(label, **how), text), err=True)


def budget_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the feasibility rows (metric, asked, smallest, dense) as a table."""
    body = []
    for row in rows:
        metric = str(row["metric"])
        asked, smallest, dense = (row.get(key) for key in ("asked", "smallest", "dense"))
        verdict = "" if asked is None or smallest is None else "yes" if smallest <= asked else "no"
        body.append(
            [
                metrics.title(metric),
                quantity(metric, dense),
                quantity(metric, smallest),
                f"{100 * smallest / dense:.1f} %" if dense and smallest is not None else "-",
                quantity(metric, asked),
                style(verdict, fg={"yes": "green", "no": "red"}[verdict]) if verdict else "",
            ]
        )
    return table(["metric", "dense", "smallest", "of dense", "asked", "can be had"], body)


def blocked(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for every row that cannot be had: what still costs the most."""
    return [
        wrapped(f"{metrics.title(str(row['metric']))} is held up by", str(row["blocked_by"]), indent=2)
        for row in rows
        if row.get("blocked_by")
    ]
