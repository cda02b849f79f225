"""A run's folder: files appear in it only when all of them are right, written by one process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dtp_edge.errors import InputError
from dtp_edge.files import DISK_FAULTS, require_spellable, unwritable

LAST = "report.json"  # moved last: its presence says that a run is finished
_ANOTHER = "Name another --out folder."
_FULL = "Free some space there, or name another --out folder."


def first_process() -> bool:
    """Return whether this is the process that speaks and writes: of several in one run, the first."""
    return os.environ.get("RANK", "0") == "0"


def is_finished(out: Path) -> bool:
    return (out / LAST).exists()


def refuse_finished(out: Path, *, force: bool) -> None:
    """Raise InputError if `out` cannot be written, or holds a finished run and `force` is not set."""
    if os.path.isfile(out):  # unlike Path.is_file, no error for a name that is too long
        raise InputError("is a file, not a folder", where=str(out), hint=_ANOTHER)
    require_spellable(out)
    if first_process():
        _try_to_write(out)
    if is_finished(out) and not force:
        raise InputError(
            "holds a finished run already",
            where=str(out),
            hint="Name another --out folder, or add --force to replace it.",
        )


def _try_to_write(out: Path) -> None:
    """Make the folder and take it away again: whether it can be written is asked before a long run."""
    probe, missing = out / f".partial-{os.getpid()}", []
    try:
        missing = [p for p in (out, *out.absolute().parents) if not p.exists()]
        probe.mkdir(parents=True)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise unwritable(out, error, _ANOTHER) from error
    finally:
        for folder in (probe, *missing):
            with suppress(OSError, ValueError):
                folder.rmdir()


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a temporary folder inside `out`; move its files up when the block ends well, else remove it.

    A folder that this call made and that stays empty is removed again, so a failed run leaves nothing.
    Raises `InputError` where the disk is full or refuses to be written, whoever was writing.
    """
    made = not out.exists()
    stage = out / f".partial-{os.getpid()}"
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        raise unwritable(out, error, _ANOTHER) from error
    try:
        yield stage
        (out / LAST).unlink(missing_ok=True)  # from here to the last move, the folder is not finished
        for path in sorted(stage.iterdir(), key=lambda p: p.name == LAST):
            os.replace(path, out / path.name)
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise unwritable(out, error, _FULL) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if made and out.exists() and not any(out.iterdir()):
            out.rmdir()
