"""npz files from outside: without pickle, and without an array that declares more than it has."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from dtp_edge.errors import InputError
from dtp_edge.files.reading import require_regular

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, *, most_bytes: int, hint: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file, in its order, of at most `most_bytes` unpacked. Raises `InputError`."""
    require_regular(path, most_bytes=most_bytes, hint=hint)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > most_bytes:
                raise ValueError(f"it has {size} bytes unpacked, at most {most_bytes} are read")
            for member in archive.infolist():
                _require_whole(archive, member)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a damaged archive or array can raise nearly anything
        raise InputError(f"the file cannot be read ({error})", where=str(path), hint=hint) from error


def _require_whole(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise ValueError where an array declares more than it has: numpy would allocate that."""
    with archive.open(member) as stream:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} declares more values than it has")
