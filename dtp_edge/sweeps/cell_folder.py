"""A cell's folder: who is at it, how far it is, how it ended; files, as every process and node reads them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dtp_edge.errors import DtpEdgeError, InputError
from dtp_edge.files import read_json, write_text

try:
    import fcntl
except ImportError:  # Windows, where one machine runs the cells one after another
    fcntl = None

__all__ = [
    "CHECKPOINT",
    "Progressed",
    "cell_folder",
    "forget_progress",
    "held",
    "outcome_of",
    "progress_of",
    "write_outcome",
]

CHECKPOINT = "checkpoint"
_OUTCOME, _PROGRESS, _LOCK = "outcome.json", "progress.json", ".running"
_MOST_BYTES = 2**22
_HINT = "Remove the folder of this cell, and go on with --resume: the cell starts anew."
_EVERY_SECONDS = 2.0
_WAIT_SECONDS = 60.0  # for one who is at the same cell still: a worker whose driver was killed ends at once


def cell_folder(sweep: Path, cell_id: str) -> Path:
    return sweep / "cells" / cell_id


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have the folder alone in the block; waits for a process that is at it still.

    Raises `InputError` if that one does not end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    with (folder / _LOCK).open("a") as file:
        until = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    hint = "Wait until it has ended, then go on with --resume."
                    raise InputError(
                        "another process works on this cell", where=str(folder), hint=hint
                    ) from error
                time.sleep(0.2)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


class Progressed:
    """The progress callback of a cell: writes how far it is, now and then, and stops it at the deadline.

    `also` is told every step. `deadline` is in seconds of `time.time`.
    """

    def __init__(self, folder: Path, deadline: float | None = None, also: Any = None) -> None:
        self.folder, self.deadline, self.also = folder, deadline, also
        self._written = 0.0

    def __call__(self, phase: str, done: int, total: int, info: Mapping[str, Any]) -> None:
        if time.monotonic() - self._written >= _EVERY_SECONDS:
            self._written = time.monotonic()
            self._write(phase, done, total, info)
        if self.also is not None:
            self.also(phase, done, total, info)
        if self.deadline is not None and time.time() > self.deadline:
            raise KeyboardInterrupt  # the loop writes its checkpoint and says that it was interrupted

    def stage(self, text: str) -> None:
        """Write what begins, of the parts without steps."""
        self._write(text, 0, 0, {})
        if self.also is not None:
            self.also.stage(text)

    def _write(self, phase: str, done: int, total: int, info: Mapping[str, Any]) -> None:
        loss = info.get("loss")
        state = {"phase": phase, "done": done, "total": total, "loss": loss, "at": time.time()}
        write_text(
            self.folder / _PROGRESS, json.dumps(state | {"host": socket.gethostname(), "pid": os.getpid()})
        )


def progress_of(folder: Path) -> dict[str, Any]:
    """Return how far a cell is; nothing where nobody says."""
    return _read(folder / _PROGRESS)


def outcome_of(folder: Path) -> dict[str, Any]:
    """Return how a cell ended; nothing where it did not so far."""
    return _read(folder / _OUTCOME)


def checkpoint_run(folder: Path) -> dict[str, Any]:
    """Return what the cell's checkpoint was begun with; nothing where it has none."""
    place = folder / CHECKPOINT
    return _read(place / "run.json") if any(place.glob("*.safetensors")) else {}


def write_outcome(folder: Path, outcome: Mapping[str, Any]) -> None:
    """Write how a cell ended. A disk that is full is no reason to lose it: the driver is told, too."""
    with suppress(DtpEdgeError):
        write_text(folder / _OUTCOME, json.dumps(outcome, indent=1))
    forget_progress(folder)


def forget_progress(folder: Path) -> None:
    """Take away what says how far a cell is: nobody is at it."""
    with suppress(OSError):
        (folder / _PROGRESS).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = read_json(path, most_bytes=_MOST_BYTES, hint=_HINT)
    except InputError:  # written anew this moment, or by a machine that stopped: as if it were not there
        return {}
    return found if isinstance(found, dict) else {}
