"""What a profiler's file says, in one form for all of them, and how such a file is found out and opened.

A reader is one file in `measure/profilers` that holds a `READER`; it is found by itself. It gets the content
of a file, bounded and decoded, says whether that is its own, and returns a `Printout`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.files import LARGEST, Bounds, check_bounds, read_bytes
from dtp_edge.files.found import modules_in

MOST_BYTES = 64 * 1024 * 1024
_BOUNDS = Bounds(values=2_000_000, keys=10_000)
_MOST_ROWS, _LONGEST = 100_000, 20_000
HINT = (
    "Give the profiler's file as it was written. docs/profilers.md lists what is read, and how each is made."
)


@dataclass(frozen=True)
class PrintedRow:
    """One line of a profile: `names` as printed (those of fused layers apart), the printed `type`, and the
    time of one call in the printout's unit; `macs` where the profiler counts them, `unit` what ran it.
    """

    names: tuple[str, ...]
    type: str
    time: float
    macs: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Printout:
    """One network's profile. `time_ms` is what one unit of a row's time is in milliseconds, None where rows
    count cycles of an unknown clock; `latency_ms` a whole call, where the profiler timed one without itself.
    `ordered`: rows stand in running order.
    """

    path: str
    runtime: str
    rows: tuple[PrintedRow, ...]
    time_ms: float | None = 1.0
    version: str = ""
    precision: str = ""
    latency_ms: float | None = None
    chip: str = ""
    clock_mhz: float | None = None
    ordered: bool = True


@dataclass(frozen=True)
class Content:
    """A file's bytes, and what they are read as; what they are not is None."""

    path: Path
    data: bytes

    @cached_property
    def text(self) -> str | None:
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None

    @cached_property
    def lines(self) -> list[str]:
        return (self.text or "").splitlines()

    @cached_property
    def json(self) -> Any:
        """The document, None for what does not begin as JSON. Raises `InputError` where it breaks off."""
        if self.data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
            return None
        try:
            document = json.loads(self.text or "")
        except (ValueError, RecursionError) as error:
            what = f"is not valid JSON, perhaps cut off: {str(error)[:200]}"
            raise InputError(what, where=str(self.path), hint=HINT) from error
        check_bounds(document, where=str(self.path), hint=HINT, bounds=_BOUNDS)
        return document

    def fault(self, what: str, line: int | str) -> InputError:
        """Return the error for one line (1 is the first), or for one JSON path."""
        place = f": line {line}" if isinstance(line, int) else f": {line}"
        return InputError(what, where=f"{self.path}{place}", hint=HINT)

    def number(self, value: Any, line: int | str, *, low: float = 0.0) -> float:
        """Return a finite number from text or JSON. Raises `InputError` that names the line."""
        try:
            found = math.nan if isinstance(value, bool) or value is None else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not low <= found <= LARGEST:
            raise self.fault(f"{str(value)[:60]!r} is no number of {low:g} or more", line)
        return found

    def name(self, value: Any, line: int | str) -> str:
        """Return a text that names a layer. Raises `InputError` that names the line."""
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise self.fault(f"{str(value)[:60]!r} is no name", line)
        return value.strip()

    def member(self, holder: Any, key: str, kind: type, path: str) -> Any:
        """Return `holder[key]`. Raises `InputError` where it is missing or of another kind."""
        value = holder.get(key) if isinstance(holder, dict) else None
        if not isinstance(value, kind):
            raise self.fault(f"is missing or no {kind.__name__}", f"{path}.{key}")
        return value

    def table(self, first: int, separator: str) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line, fields) below the head in line `first` (1 is the first line of the file)."""
        head = [cell.strip() for cell in self.lines[first - 1].split(separator)]
        for number, text in enumerate(self.lines[first:], first + 1):
            if not text.strip():
                continue
            cells = [cell.strip() for cell in text.rstrip("\r").split(separator, len(head) - 1)]
            if len(cells) < len(head):
                raise self.fault(
                    f"{len(cells)} fields for {len(head)} columns; the file may be cut off", number
                )
            yield number, dict(zip(head, cells, strict=True))


@dataclass(frozen=True)
class Reader:
    """`title` is the tool, `made_by` the command that writes the file, `fixture` an example in
    `tests/measure/profilers`, `fixture_from` what wrote it.

    `recognises` a content as its own, `read`s it with the companion (None if none was given);
    `companion` recognises a second file that tells more of the first.
    """

    title: str
    made_by: str
    fixture: str
    fixture_from: str
    recognises: Callable[[Content], bool]
    read: Callable[[Content, Content | None], Printout]
    companion: Callable[[Content], bool] | None = None
    companion_fixture: str = ""
    notes: str = ""


def is_kit(content: Content) -> bool:
    """Return whether this is what the kit's script wrote, see `measure.kit`."""
    return isinstance(content.json, dict) and "kit_version" in content.json


def readers() -> dict[str, Reader]:
    """Return all readers by the name of their file."""
    return {name: module.READER for name, module in modules_in("dtp_edge.measure.profilers").items()}


def open_content(path: Path) -> Content:
    """Open an ordinary file of at most 64 MiB. Raises `InputError`."""
    return Content(path, read_bytes(path, most_bytes=MOST_BYTES, hint=HINT))


def read_printouts(paths: Sequence[Path]) -> list[Printout]:
    """Return the printouts in these files, in order; a companion belongs to the nearest printout of its tool.

    Raises `InputError` for a file that no reader knows, and for one that is broken, with the line.
    """
    mains: list[tuple[int, Reader, Content]] = []
    others: list[tuple[int, Reader, Content]] = []
    known = readers()
    for place, path in enumerate(paths):
        content = open_content(path)
        main = next((r for r in known.values() if r.recognises(content)), None)
        second = next((r for r in known.values() if r.companion and r.companion(content)), None)
        if main is not None:
            mains.append((place, main, content))
        elif second is not None:
            others.append((place, second, content))
        else:
            tools = ", ".join(reader.title for reader in known.values())
            raise InputError(f"is not a profile of a known tool: {tools}", where=str(path), hint=HINT)
    mates: dict[int, Content] = {}
    for place, reader, content in others:
        free = [at for at, main, _ in mains if main is reader and at not in mates]
        if not free:
            raise InputError(
                f"belongs to a profile of {reader.title}, which is missing among the files",
                where=str(content.path),
                hint=f"That is made by: {reader.made_by}",
            )
        mates[min(free, key=lambda at: (abs(at - place), at > place))] = content
    return [_checked(reader.read(content, mates.get(at)), content) for at, reader, content in mains]


def _checked(printout: Printout, content: Content) -> Printout:
    total = sum(row.time for row in printout.rows)
    if not printout.rows or not total > 0:
        raise InputError("holds no layer that took time", where=str(content.path), hint=HINT)
    if len(printout.rows) > _MOST_ROWS:
        raise InputError(
            f"has {len(printout.rows)} rows; at most {_MOST_ROWS} are read",
            where=str(content.path),
            hint=HINT,
        )
    return printout
