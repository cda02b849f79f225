"""A checkpoint's file as data: safetensors, or torch.load with weights_only=True; nothing in it is run."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtp_edge.errors import InputError
from dtp_edge.files import require_regular

MAX_BYTES = 16 * 2**30
_HINT = "Check the path of --weights."
_SAVE = (
    "In the program that made it, save only the weights: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
)
_PROGRAMS = {  # a member that only this kind of zip has -> what the file is, and how its weights are had
    "constants.pkl": ("a TorchScript archive", "torch.jit.load(FILE).state_dict()"),
    "archive_format": ("an exported program", "torch.export.load(FILE).state_dict"),
    "serialized_exported_program.json": ("an exported program", "torch.export.load(FILE).state_dict"),
}


def read_checkpoint(path: Path) -> Any:
    """Return what a checkpoint holds: tensors, numbers and text in nested containers.

    Raises `InputError` for what is no ordinary file, truncated, unknown, or a pickle that would run code.
    """
    if path.is_dir():
        raise InputError(
            "this is a folder, not a checkpoint", where=str(path), hint="Name the file inside it."
        )
    if require_regular(path, most_bytes=MAX_BYTES, hint=_HINT) == 0:
        raise InputError("the checkpoint is empty", where=str(path), hint="Copy or download it again.")
    return _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a checkpoint's bytes."""
    require_regular(path, most_bytes=MAX_BYTES, hint=_HINT)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix == ".safetensors":
        return True
    # eight bytes of header length, then JSON
    return len(head) == 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < path.stat().st_size


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"the file is truncated or is not safetensors ({str(error)[:200]})",
            where=str(path),
            hint="Copy or download it again, and compare its size with the source.",
        ) from error


def _read_torch(path: Path) -> Any:
    _refuse_programs(path)
    try:
        with _numpy_scalars():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            raise InputError(
                "the checkpoint is a pickle that holds Python objects or code; it was not run",
                where=str(path),
                hint=_SAVE,
            ) from error
        raise _truncated(path, error) from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise _truncated(path, error) from error


def _refuse_programs(path: Path) -> None:
    """Raise `InputError` for a zip that holds a whole program, or more than any checkpoint unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        return  # an older checkpoint, or none: torch.load says so
    for member in members:
        found = _PROGRAMS.get(member.filename.rpartition("/")[2])
        if found is not None:
            what, weights = found
            raise InputError(
                f"this is {what}, not a checkpoint",
                where=str(path),
                hint=f"Save the weights alone: safetensors.torch.save_file({weights}, 'w.safetensors').",
            )
    if (size := sum(member.file_size for member in members)) > MAX_BYTES:
        raise InputError(
            f"its parts take {size} bytes unpacked; at most {MAX_BYTES} are read", where=str(path), hint=_SAVE
        )


@contextlib.contextmanager
def _numpy_scalars() -> Iterator[None]:
    """Let numpy's numbers pass, which training programs keep beside the weights: numbers are data, too."""
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    core: Any = getattr(np, "_core", None) or np.core
    scalar, array = core.multiarray.scalar, core.multiarray._reconstruct
    known = [scalar, array, np.ndarray, np.dtype, *kinds]
    named = [(scalar, f"numpy.{place}.multiarray.scalar") for place in ("core", "_core")]
    with torch.serialization.safe_globals([*known, *named]):
        yield


def _truncated(path: Path, error: Exception) -> InputError:
    first = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return InputError(
        f"the checkpoint is truncated or in no known format ({first})",
        where=str(path),
        hint="Copy or download it again; safetensors and torch.save(state_dict) files are read.",
    )
