"""The sweep's table on disk: `sweep.json`, written whole, and `sweep.html` made of it, while it runs too."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dtp_edge.errors import DtpEdgeError, InputError
from dtp_edge.profiles import Profile
from dtp_edge.report import SWEEP_JSON, read_sweep, write_sweep
from dtp_edge.sweeps.cell_folder import cell_folder, outcome_of, progress_of
from dtp_edge.sweeps.planning import Row

__all__ = ["Ledger", "device_rows"]

PAGE_SECONDS = 5.0
_SAME = ("weights_sha256", "data", "seed", "threads")  # what all cells of a sweep have in common


class Ledger:
    """`rows` has one row a cell, by its id: a cell cannot be in the table twice, or be lost from it."""

    def __init__(self, folder: Path, head: Mapping[str, Any], rows: Sequence[Row]) -> None:
        self.folder, self.head = folder, dict(head)
        self.rows = {row["id"]: dict(row) for row in rows}
        self._written = 0.0

    def take_over(self) -> None:
        """Go on from the sweep that is in the folder: cells that are done keep their rows.

        Raises `InputError` where it is one of another network, data, seed or number of threads.
        """
        before = read_sweep(self.folder)
        for key in _SAME:
            if before.get(key) != self.head.get(key):
                raise InputError(
                    f"belongs to another sweep: {key} was {before.get(key)!r}, is {self.head.get(key)!r}",
                    where=str(self.folder / SWEEP_JSON),
                    hint="Resume with the options of the first run, or name another --out folder.",
                )
        self.head["started"] = before["started"]
        gone = {row["id"] for row in before["cells"] if row["state"] == "done"} - set(self.rows)
        self.rows |= {row["id"]: row for row in before["cells"] if row["id"] in gone}
        for name in self.rows:
            found = outcome_of(cell_folder(self.folder, name))
            if found.get("state") == "done":
                self.note(name, found)

    def open_ids(self) -> set[str]:
        """Return the cells that have to be run."""
        return {name for name, row in self.rows.items() if row["state"] not in ("done", "refused")}

    def note(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Take over how a cell ended."""
        row = self.rows[name]
        for key in ("phase", "done", "total", "reason", "hint", "trace"):
            row.pop(key, None)
        row |= {key: value for key, value in outcome.items() if key != "trace"}

    def tick(self) -> None:
        """Write the page anew if that was not done for some seconds."""
        if time.monotonic() - self._written >= PAGE_SECONDS:
            self.write("running")

    def write(self, state: str) -> None:
        """Write `sweep.json` and `sweep.html`; a disk that is full now may have room the next time."""
        if state == "running":
            self._look()
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        document = self.head | {"state": state, "updated": now, "cells": list(self.rows.values())}
        self._written = time.monotonic()
        try:
            write_sweep(self.folder, document)
        except DtpEdgeError:
            if state != "running":
                raise

    def _look(self) -> None:
        """Read how far the cells are, wherever they run."""
        for name, row in self.rows.items():
            if row["state"] in ("waiting", "running"):
                found = progress_of(cell_folder(self.folder, name))
                if found:
                    row |= {"state": "running"} | {
                        k: found.get(k) for k in ("phase", "done", "total", "host")
                    }


def device_rows(profiles: Mapping[str, Profile]) -> list[dict[str, Any]]:
    """Return what the page says of each device."""
    return [
        {
            "name": name,
            "title": profile.device.name,
            "runtime": profile.runtime.name,
            "error_text": profile.error_text,
            "relative_error": profile.error.median_relative,
        }
        for name, profile in profiles.items()
    ]
