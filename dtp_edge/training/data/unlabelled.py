"""Inputs without labels, for calibration: pictures in one folder, arrays in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtp_edge.errors import InputError
from dtp_edge.files import read_npz
from dtp_edge.training.data.folder import DatasetSplit, ImageFolder
from dtp_edge.training.data.folders import SUFFIXES

_BATCH = 32
_MOST_BYTES = 1 << 32
_HINT = "np.savez writes one: an array for each input, samples in their first dimension."


@dataclass(frozen=True)
class Batches:
    """Batches that can be read again: `read` makes an iterator of them."""

    read: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[Any]:
        return self.read()


def pictures(folder: Path, size: int, workers: int) -> Batches:
    """Batches of the pictures in `folder` and below, in the order of their names, as `ImageFolder` reads
    them."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise InputError(
            "no pictures are in it", where=str(folder), hint="Name a folder of JPEG or PNG files."
        )
    data = ImageFolder([(path, 0) for path in files], size)
    split = DatasetSplit(data, torch.arange(len(files)), workers)
    return Batches(lambda: (x for x, _ in split.ordered(_BATCH)))


def arrays(path: Path) -> Batches:
    """Batches of the arrays of an npz file, in the order in which it holds them."""
    loaded = read_npz(path, most_bytes=_MOST_BYTES, hint=_HINT)
    found = [torch.from_numpy(np.ascontiguousarray(array)) for array in loaded.values()]
    if not found or any(t.dim() == 0 or len(t) != len(found[0]) for t in found):
        raise InputError("its arrays do not hold as many samples each", where=str(path), hint=_HINT)
    found = [t.float() if t.dtype == torch.float64 else t for t in found]
    starts = range(0, len(found[0]), _BATCH)
    return Batches(lambda: (tuple(t[i : i + _BATCH] for t in found) for i in starts))
