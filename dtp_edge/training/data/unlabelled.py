"""Inputs without labels, for calibration: pictures in one folder, arrays in one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.files import read_npz
from dtp_edge.training.data.dataset_split import DatasetSplit
from dtp_edge.training.data.folders import SUFFIXES
from dtp_edge.training.data.image_folder import ImageFolder
from dtp_edge.training.data.registry import Ask, kinds
from dtp_edge.training.data.source import DataSource

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
    """Batches of the pictures in `folder` and below, as `ImageFolder` reads them, in a fixed random order.

    Names are often sorted by class, and the first few hundred would be of one.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise InputError(
            "no pictures are in it", where=str(folder), hint="Name a folder of JPEG or PNG files."
        )
    data = ImageFolder([(path, 0) for path in files], size)
    split = DatasetSplit(data, _order(len(files)), workers)
    return Batches(lambda: (x for x, _ in split.ordered(_BATCH)))


def arrays(path: Path, ask: Ask) -> DataSource | Batches:
    """Batches of the arrays of an npz file, in the order in which it holds them, samples in a fixed random
    one; what `--data` reads as `x` and `y`, or as pictures, is read as there."""
    loaded = read_npz(path, most_bytes=_MOST_BYTES, hint=_HINT)
    names = set(loaded)
    if {"x_train", "y"} & names or (names == {"x"} and loaded["x"].dtype == np.uint8):
        return kinds()["npz"].open(ask)
    found = [torch.from_numpy(np.ascontiguousarray(array)) for array in loaded.values()]
    if not found or any(t.dim() == 0 or len(t) != len(found[0]) for t in found):
        raise InputError("its arrays do not hold as many samples each", where=str(path), hint=_HINT)
    found = [t.float() if t.dtype == torch.float64 else t for t in found]
    rows = _order(len(found[0])).split(_BATCH)
    return Batches(lambda: (tuple(t[some] for t in found) for some in rows))


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(8))
