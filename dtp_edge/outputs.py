"""A run's folder: files appear in it only when all of them are right, written by one process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dtp_edge.errors import InputError

LAST = "report.json"  # moved last: its presence says that a run is finished


def first_process() -> bool:
    """Return whether this is the process that speaks and writes: of several in one run, the first."""
    return os.environ.get("RANK", "0") == "0"


def is_finished(out: Path) -> bool:
    return (out / LAST).exists()


def refuse_finished(out: Path, *, force: bool) -> None:
    """Raise InputError if `out` cannot be written, or holds a finished run and `force` is not set."""
    above = next((p for p in (out, *out.absolute().parents) if p.exists()), out)
    if not os.access(above, os.W_OK):
        raise InputError("cannot be written", where=str(out), hint="Name another --out folder.")
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder", where=str(out), hint="Name another --out folder.")
    if is_finished(out) and not force:
        raise InputError(
            "holds a finished run already",
            where=str(out),
            hint="Name another --out folder, or add --force to replace it.",
        )


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a temporary folder inside `out`; move its files up when the block ends well, else remove it.

    A folder that this call made and that stays empty is removed again, so a failed run leaves nothing.
    """
    made = not out.exists()
    stage = out / f".partial-{os.getpid()}"
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(out), hint="Name another --out folder."
        ) from error
    try:
        yield stage
        (out / LAST).unlink(missing_ok=True)  # from here to the last move, the folder is not finished
        for path in sorted(stage.iterdir(), key=lambda p: p.name == LAST):
            os.replace(path, out / path.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if made and out.exists() and not any(out.iterdir()):
            out.rmdir()
