"""JSON and CSV from outside: bounded and counted in one pass, before anything slower looks at them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dtp_edge.errors import InputError
from dtp_edge.files.reading import read_text

LARGEST = 1e30  # of any number in a file: beyond it, products of a few of them leave float64
_LONGEST_KEY = 1_000
_MOST_ROWS, _MOST_COLUMNS = 200_000, 200


class Bounds(NamedTuple):
    """What a JSON document may hold: values in all, keys of one object, characters of one text, levels."""

    values: int = 500_000
    keys: int = 1_000
    text: int = 20_000
    depth: int = 40


def read_json(path: Path, *, most_bytes: int, hint: str, bounds: Bounds | None = None) -> Any:
    """Return the JSON document in a file; a key that is given twice is refused.

    Raises `InputError` with the JSON path of the first value that leaves the bounds.
    """
    text = read_text(path, most_bytes=most_bytes, hint=hint)
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not valid JSON: {str(error)[:200]}", where=str(path), hint=hint) from error
    check_bounds(document, where=str(path), hint=hint, bounds=bounds)
    return document


def check_bounds(document: Any, *, where: str, hint: str, bounds: Bounds | None = None) -> None:
    """Raise `InputError` for the first value out of bounds: number, text, size, depth; in one pass."""
    limits = bounds or Bounds()
    open_: list[Iterator[tuple[Any, Any]]] = [iter([("$", document)])]  # one for each level that is open
    path: list[Any] = [None]
    seen = 0
    while open_:
        for key, value in open_[-1]:
            path[-1] = key
            seen += 1
            if seen > limits.values or (fault := _fault(value, limits)) is not None:
                what = f"more than {limits.values} values" if seen > limits.values else fault
                raise InputError(str(what), where=f"{where}: {_spelt(path)}", hint=hint)
            if isinstance(value, dict | list):
                if len(path) > limits.depth:
                    raise InputError("is nested too deeply", where=f"{where}: {_spelt(path)}", hint=hint)
                open_.append(iter(value.items()) if isinstance(value, dict) else enumerate(value))
                path.append(None)
                break
        else:
            open_.pop()
            path.pop()


def _spelt(path: list[Any]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key[:100]}" for key in path)[1:]


def _fault(value: Any, limits: Bounds) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if abs(value) <= LARGEST:
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return f"{value} is not a finite number"
        return f"is not a number between -{LARGEST:g} and {LARGEST:g}"
    if isinstance(value, str):
        return None if len(value) <= limits.text else f"is a text of {len(value)} characters"
    if isinstance(value, dict):
        if len(value) > limits.keys:
            return f"has {len(value)} fields; at most {limits.keys} are read"
        long = next((key for key in value if len(key) > _LONGEST_KEY), None)
        return None if long is None else f"has a field whose name is {len(long)} characters long"
    return None if len(value) <= limits.values else f"has {len(value)} items"


def read_csv(path: Path, *, most_bytes: int, hint: str) -> list[dict[str, str]]:
    """Return one mapping a line of a CSV file with a head; blank lines and absent last fields are left out.

    Raises `InputError` for more than 200,000 lines or 200 columns, and for a line longer than the head.
    """
    return [cells for _, cells in read_csv_lines(path, most_bytes=most_bytes, hint=hint)]


def read_csv_lines(path: Path, *, most_bytes: int, hint: str) -> list[tuple[int, dict[str, str]]]:
    """As `read_csv`, with the number that each line has in the file."""
    import csv  # no command but those that read a table wants it

    text = read_text(path, most_bytes=most_bytes, hint=hint)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[tuple[int, dict[str, str]]] = []
    try:
        head = [name.strip() for name in next(reader, [])]
        if len(head) > _MOST_COLUMNS:
            raise InputError(
                f"has {len(head)} columns; at most {_MOST_COLUMNS} are read", where=str(path), hint=hint
            )
        for cells in reader:
            if any(cells[len(head) :]):
                what = f"line {reader.line_num} has {len(cells)} fields for {len(head)} columns"
                raise InputError(what, where=str(path), hint=hint)
            if cells:
                found.append((reader.line_num, dict(zip(head, cells, strict=False))))
            if len(found) > _MOST_ROWS:
                raise InputError(f"has more than {_MOST_ROWS} lines", where=str(path), hint=hint)
    except csv.Error as error:
        raise InputError(f"is not CSV: {error}", where=str(path), hint=hint) from error
    return found


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the field {twice[:100]!r} is given twice")
    return result
