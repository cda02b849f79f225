"""An experiment is a declaration: its command, the file of its rows, their page. It alone writes them."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.origin import ROOT, in_words, origin

RESULTS = ROOT / "benchmarks" / "results"
Row = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """`rows` and `page` are names in results/; `maker` is the function that makes the page of the rows.

    `packages` are those whose versions a row names; `key` says which older row of a CSV table a new one
    replaces.
    """

    module: str
    rows: str = ""
    page: str = ""
    maker: str = ""
    packages: tuple[str, ...] = ("torch",)
    key: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        return f"python -m {self.module}"

    @property
    def path(self) -> Path:
        return RESULTS / self.rows

    def read(self, path: Path | None = None) -> list[Row]:
        """Return the rows that are there. Rows of a CSV file take its head (a line of #) as their origin."""
        path = path or self.path
        if not self.rows or not path.is_file():
            return []
        if path.suffix == ".csv":
            return _read_csv(path)
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in path.read_text().splitlines()]
        document = json.loads(path.read_text())
        about = {key: value for key, value in document.items() if isinstance(value, str)}
        return [about | row for row in document.get("rows", [{}])]

    def append(self, row: Row, path: Path | None = None) -> None:
        """Add one row to the JSONL file, with its origin."""
        path = path or self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(row | origin(self.packages)) + "\n"
        with path.open("a") as file:
            file.write(line)

    def table(self, rows: Iterable[Row], path: Path | None = None) -> None:
        """Write the CSV file anew. A row that has an origin keeps it, any other gets this run's."""
        path, now = path or self.path, in_words(origin(self.packages))
        whole = [row if row.get("origin") else row | {"origin": now} for row in rows]
        columns = [name for name in dict.fromkeys(k for row in whole for k in row) if name != "origin"]
        draft = path.with_name(path.name + ".tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*columns, "origin"])
            writer.writeheader()
            writer.writerows(whole)
        draft.replace(path)

    def merge(self, rows: Sequence[Row], path: Path | None = None) -> list[Row]:
        """Put rows into the CSV file, in the place of older ones of the same `key`; return all of them."""
        new = {self._key(row) for row in rows}
        whole = [row for row in self.read(path) if self._key(row) not in new] + list(rows)
        self.table(whole, path)
        return whole

    def _key(self, row: Row) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.key)

    def document(self, content: Row, path: Path | None = None) -> Row:
        """Write one JSON document, with its origin at the head; return it."""
        path, whole = path or self.path, origin(self.packages) | content
        draft = path.with_name(path.name + ".tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(whole, indent=1) + "\n")
        draft.replace(path)
        return whole

    def render(self) -> str:
        """Return the page of the committed rows."""
        module, function = self.maker.split(":")
        return getattr(importlib.import_module(module), function)()

    def write_page(self) -> str:
        """Write the page; return it."""
        text = self.render()
        (RESULTS / self.page).write_text(text, encoding="utf-8")
        return text


def _read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(stream)
    head = lines.pop(0).removeprefix("#").strip() if lines and lines[0].startswith("#") else "not recorded"
    return [dict(row) | {"origin": row.get("origin") or head} for row in csv.DictReader(lines)]
