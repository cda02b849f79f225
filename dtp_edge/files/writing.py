"""Files appear whole or not at all: written beside their place, flushed, then moved; the one place for it.

A full disk, a folder that may not be written and a device that fails are `InputError`: a person can mend
them. What was begun is taken away again.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dtp_edge.errors import InputError

DISK_FAULTS = frozenset(
    {errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
    | {getattr(errno, "EDQUOT", errno.ENOSPC)}
)
HINT = "Free some space there, or name a place that you may write to."
_count = itertools.count()


def require_spellable(path: Path) -> None:
    """Raise `InputError` where libraries that are not Python's cannot be given the name of `path`.

    Such a name has letters that the locale's encoding does not have (a Chinese folder where that is ASCII).
    """
    try:
        str(path.absolute()).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            "its name has letters that are not in the encoding of this system's locale "
            f"({sys.getfilesystemencoding()})",
            where=ascii(str(path)),
            hint="Set PYTHONUTF8=1 or LC_ALL=C.UTF-8 and run again, or name a folder in plain letters.",
        ) from error


@contextmanager
def whole_file(path: Path, *, hint: str = HINT) -> Iterator[Path]:
    """Give the name of a draft beside `path`; when the block ends well, the draft takes the place of `path`.

    Folders above are made. Raises `InputError` where the system refuses to write, and leaves no draft.
    """
    if "\0" in str(path):
        why = "cannot be the name of a file: it holds a zero byte"
        raise InputError(why, where=repr(str(path)), hint=hint)
    draft = path.with_name(f".{path.name[:60]}.{os.getpid()}.{next(_count)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        _flush(draft)
        os.replace(draft, path)
    except OSError as error:
        raise unwritable(path, error, hint) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, hint: str = HINT) -> Path:
    """Write `content` to `path` in one move; return the path. Raises `InputError`."""
    with whole_file(path, hint=hint) as draft:
        draft.write_bytes(content)
    return path


def write_text(path: Path, text: str, *, hint: str = HINT) -> Path:
    """Write `text` as UTF-8 in one move; lone surrogates, which file names can hold, become "?"."""
    return write_bytes(path, text.encode("utf-8", errors="replace"), hint=hint)


def unwritable(path: Path, error: OSError | ValueError, hint: str = HINT) -> InputError:
    """Return the error that says why `path` cannot be written."""
    reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return InputError(f"cannot be written: {reason}", where=str(path), hint=hint)


def _flush(path: Path) -> None:
    """Have the content on the disk before the name: a machine that stops leaves the old file or the new."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
