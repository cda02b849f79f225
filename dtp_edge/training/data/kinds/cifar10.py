"""CIFAR-10, from one npz file or from the folder as torchvision unpacks it.

Not torchvision's reader: it unpickles whatever a file asks for, and every torchvision fits one torch only.
"""

from __future__ import annotations

import io
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.files import open_file, read_npz
from dtp_edge.training.data.arrays import HINT, from_arrays
from dtp_edge.training.data.augment import Augment
from dtp_edge.training.data.registry import Kind
from dtp_edge.training.data.source import DataSource

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the published ResNets were trained with
_CLASSES = 10
_MAX_NPZ_BYTES, _MAX_BATCH_BYTES = 1 << 29, 1 << 28


def cifar10(folder: Path) -> DataSource:
    """CIFAR-10 from a folder (or file) `cifar10_jpeg.npz`, or torchvision's `cifar-10-batches-py`."""
    npz = folder if folder.suffix == ".npz" else folder / "cifar10_jpeg.npz"
    batches = folder if (folder / "data_batch_1").is_file() else folder / "cifar-10-batches-py"
    if npz.is_file():
        train, test = _jpeg_npz(npz)
    elif batches.is_dir():
        train = _join([_cifar_batch(batches / f"data_batch_{i}") for i in range(1, 6)])
        test = _cifar_batch(batches / "test_batch")
    else:
        raise InputError(
            "no CIFAR-10 was found",
            where=str(folder),
            hint="The folder must hold cifar10_jpeg.npz, or cifar-10-batches-py as torchvision unpacks it.",
        )
    return from_arrays(
        "cifar10",
        train,
        test,
        num_classes=_CLASSES,
        mean=_MEAN,
        std=_STD,
        augment=Augment(shift=4, flip=True),
    )


def _join(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _jpeg_npz(path: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    found = read_npz(path, most_bytes=_MAX_NPZ_BYTES, hint=HINT)
    try:
        return _decode(found, "train"), _decode(found, "test")
    except InputError:
        raise
    except Exception as error:  # a damaged array or picture can raise nearly anything
        raise InputError(
            f"the file cannot be read ({error})", where=str(path), hint="Copy or download it again."
        ) from error


def _decode(file: Any, part: str) -> tuple[Tensor, Tensor]:
    """JPEG bytes joined in one array, with offsets `[N + 1]`, to uint8 `[N, 3, 32, 32]`."""
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError("reading JPEG needs Pillow", hint="pip install pillow") from error
    data, offsets = file[f"{part}_jpeg"], file[f"{part}_offsets"]
    labels = torch.from_numpy(file[f"{part}_labels"].astype(np.int64))
    if (
        len(offsets) != len(labels) + 1
        or offsets[0] < 0
        or offsets[-1] > len(data)
        or np.any(np.diff(offsets) <= 0)
    ):
        raise ValueError(f"{part}_offsets do not fit {part}_jpeg")
    images = np.empty((len(labels), 32, 32, 3), np.uint8)
    for i, (start, stop) in enumerate(itertools.pairwise(offsets)):
        with Image.open(io.BytesIO(data[start:stop].tobytes()), formats=("JPEG",)) as picture:
            if picture.size != (32, 32):
                raise ValueError(f"{part} image {i} is {picture.size}, not 32x32")
            images[i] = np.asarray(picture.convert("RGB"))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


class _PlainUnpickler(pickle.Unpickler):
    """Admits containers, bytes and numpy arrays: all that CIFAR-10's own files hold."""

    _ALLOWED = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return super().find_class(module, name)


def _cifar_batch(path: Path) -> tuple[Tensor, Tensor]:
    """One of CIFAR-10's python batches: uint8 `[10000, 3072]` and a list of labels."""
    if not path.is_file():
        raise InputError("the file is missing", where=str(path), hint="Unpack cifar-10-python.tar.gz again.")
    try:
        with open_file(path, most_bytes=_MAX_BATCH_BYTES, hint=HINT) as file:
            found = _PlainUnpickler(file, encoding="bytes").load()
        data = np.asarray(found[b"data"] if b"data" in found else found["data"])
        labels = np.asarray(found[b"labels"] if b"labels" in found else found["labels"], dtype=np.int64)
        if data.dtype != np.uint8 or data.shape != (len(labels), 3072):
            raise ValueError(f"data is {data.dtype} {data.shape}")
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(
            f"this is not a CIFAR-10 batch ({type(error).__name__}: {error})",
            where=str(path),
            hint="Unpack cifar-10-python.tar.gz again.",
        ) from error
    return torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()), torch.from_numpy(labels)


KIND = Kind(
    "cifar10",
    "cifar10:DIR",
    "CIFAR-10: torchvision's folder, or one npz file",
    lambda ask: cifar10(ask.folder()),
)
