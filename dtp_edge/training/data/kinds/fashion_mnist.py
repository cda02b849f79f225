"""Fashion-MNIST and MNIST, from their idx files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.training.data.arrays import HINT, from_arrays
from dtp_edge.training.data.augment import Augment
from dtp_edge.training.data.registry import Ask, Kind
from dtp_edge.training.data.source import DataSource

_MAX_IDX_BYTES = 1 << 30


def fashion_mnist(folder: Path) -> DataSource:
    """Fashion-MNIST (or MNIST) from idx files, gzipped or not, in `folder` or `folder/FashionMNIST/raw`."""
    places = [folder, folder / "FashionMNIST" / "raw", folder / "raw"]
    place = next((p for p in places if list(p.glob("train-images-idx3-ubyte*"))), None)
    if place is None:
        raise InputError(
            "no idx files were found",
            where=str(folder),
            hint="The folder must hold train-images-idx3-ubyte(.gz) and the three files beside it "
            "(on Debian: the package dataset-fashion-mnist).",
        )
    parts = [
        (_idx(place, f"{name}-images-idx3-ubyte")[:, None], _idx(place, f"{name}-labels-idx1-ubyte").long())
        for name in ("train", "t10k")
    ]
    return from_arrays("fashion-mnist", parts[0], parts[1], augment=Augment(shift=2, flip=True))


def _places() -> list[Path]:
    """Where a system package puts Fashion-MNIST."""
    roots = (Path("/usr/share"), Path("/usr/local/share"), Path.home() / ".local/share")
    return [r / "datasets" / "fashion-mnist" for r in roots]


def _open(ask: Ask) -> DataSource:
    if ask.rest:
        return fashion_mnist(ask.folder())
    place = next((p for p in _places() if p.is_dir()), None)
    if place is None:
        raise InputError(
            "no Fashion-MNIST is installed on this machine",
            where=ask.spec,
            hint="Name its folder, fashion-mnist:DIR, or install Debian's dataset-fashion-mnist.",
        )
    return fashion_mnist(place)


def _idx(folder: Path, stem: str) -> Tensor:
    """An idx file of bytes: two zeros, type 8, number of dimensions, big-endian sizes, data."""
    path = next((p for p in (folder / f"{stem}.gz", folder / stem) if p.is_file()), None)
    if path is None:
        raise InputError(f"the file {stem}(.gz) is missing", where=str(folder), hint=HINT)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(_MAX_IDX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"the file is truncated ({error})", where=str(path), hint="Copy it again."
        ) from error
    dims = raw[3] if len(raw) > 3 else 0
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims))
    data = np.frombuffer(raw, np.uint8, offset=min(len(raw), 4 + 4 * dims))
    if raw[:3] != b"\0\0\x08" or dims not in (1, 3) or len(data) != int(np.prod(shape)):
        raise InputError("this is not a complete idx file of bytes", where=str(path), hint="Copy it again.")
    return torch.from_numpy(data.reshape(shape).copy())


KIND = Kind(
    "fashion-mnist",
    "fashion-mnist:DIR",
    "the four idx files; without `:DIR` those of Debian's dataset-fashion-mnist",
    _open,
)
