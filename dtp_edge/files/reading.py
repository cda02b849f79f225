"""Files from outside: only regular ones are opened, and never more of one than was agreed on.

A pipe has no size and never ends, a device may be endless or change when it is read, and a file can grow
between the question for its size and the reading: kind and size are asked of the open file.
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO

from dtp_edge.errors import InputError, require_file

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def require_regular(path: Path, *, most_bytes: int, hint: str) -> int:
    """Return the size of a regular file of 1 to `most_bytes` bytes; for libraries that open it themselves.

    Raises `InputError` that says what the path is instead.
    """
    require_file(path, hint)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error, hint) from error
    _check_size(path, size, most_bytes, hint)
    return size


def open_file(path: Path, *, most_bytes: int, hint: str) -> BinaryIO:
    """Open a regular file of at most `most_bytes` bytes for reading. Raises `InputError`."""
    require_file(path, hint)
    try:
        handle = os.open(path, _FLAGS)  # without waiting, should a pipe have taken its place
    except OSError as error:
        raise _unreadable(path, error, hint) from error
    found = os.fstat(handle)
    file = os.fdopen(handle, "rb")
    try:
        if not stat.S_ISREG(found.st_mode):
            raise InputError("is not an ordinary file", where=str(path), hint=hint)
        _check_size(path, found.st_size, most_bytes, hint)
    except InputError:
        file.close()
        raise
    return file


def read_bytes(path: Path, *, most_bytes: int, hint: str) -> bytes:
    """Return all of a regular file of at most `most_bytes` bytes. Raises `InputError`."""
    with open_file(path, most_bytes=most_bytes, hint=hint) as file:
        try:
            content = file.read(most_bytes + 1)
        except OSError as error:
            raise _unreadable(path, error, hint) from error
    _check_size(path, len(content), most_bytes, hint)  # files of /proc say that they are empty
    return content


def read_text(path: Path, *, most_bytes: int, hint: str) -> str:
    """Return a file as text: UTF-8, or UTF-16 with its mark, as Windows writes it. Raises `InputError`."""
    content = read_bytes(path, most_bytes=most_bytes, hint=hint)
    try:
        return content.decode("utf-16" if content[:2] in _UTF16_MARKS else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text ({error})", where=str(path), hint=hint) from error


def _check_size(path: Path, size: int, most_bytes: int, hint: str) -> None:
    if size > most_bytes:
        raise InputError(
            f"the file has {size} bytes; at most {most_bytes} are read", where=str(path), hint=hint
        )


def _unreadable(path: Path, error: OSError, hint: str) -> InputError:
    return InputError(f"cannot be read: {error.strerror or error}", where=str(path), hint=hint)
