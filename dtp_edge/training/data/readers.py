"""Readers of small, well-known sets into memory: scikit-learn's digits, CIFAR-10, Fashion-MNIST.

Not torchvision's: they unpickle whatever a file asks for, and every torchvision fits one torch only.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.files import open_file, require_regular
from dtp_edge.training.data.augment import Augment
from dtp_edge.training.data.source import ArraySplit, DataSource, split_holdout
from dtp_edge.training.data.transforms import PerImage, Transform

HINT = "docs/own-network.md says how data must lie in the folder, or what the function returns."

_CIFAR_MEAN, _CIFAR_STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # what the published ResNets were trained with
_CIFAR_CLASSES = 10
_MAX_IDX_BYTES, _MAX_NPZ_BYTES, _MAX_BATCH_BYTES = 1 << 30, 1 << 29, 1 << 28


def digits(size: int = 32) -> DataSource:
    """scikit-learn's 1,797 digits, 8x8, enlarged to `size`; a fixed fifth is the test set."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            "the digits come with scikit-learn, which is not installed", hint='pip install "dtp-edge[demo]"'
        ) from error
    pictures, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(pictures.reshape(-1, 1, 8, 8)).float().mul(255 / 16)
    images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    images, labels = images.round().clamp(0, 255).to(torch.uint8), torch.from_numpy(classes).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(8))
    cut = len(labels) // 5
    test, train = order[:cut], order[cut:]
    return from_arrays(
        "digits",
        (images[train], labels[train]),
        (images[test], labels[test]),
        augment=Augment(shift=size // 16),
    )


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
        num_classes=_CIFAR_CLASSES,
        mean=_CIFAR_MEAN,
        std=_CIFAR_STD,
        augment=Augment(shift=4, flip=True),
    )


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


def fashion_mnist_places() -> list[Path]:
    """Where a system package puts Fashion-MNIST."""
    roots = (Path("/usr/share"), Path("/usr/local/share"), Path.home() / ".local/share")
    return [r / "datasets" / "fashion-mnist" for r in roots]


def from_arrays(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    num_classes: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    augment: Augment | Transform | None = None,
) -> DataSource:
    """A data source from `(images uint8 [N, C, H, W], labels int64 [N])` pairs; what is None is inferred.

    `augment` is `Augment(shift, flip)`, or any transform of torchvision's v2 (applied to one image at a
    time, with draws that depend on the run's seed, the epoch and the batch alone).
    """
    augment = augment or Augment()
    change = augment if isinstance(augment, Augment) else PerImage(augment)
    for part, (images, labels) in (("training", train), ("test", test)):
        if images.ndim != 4 or len(images) != len(labels) or not len(labels):
            raise InputError(
                f"the {part} part has images {list(images.shape)} and labels {list(labels.shape)}",
                where=name,
                hint=HINT,
            )
    classes = num_classes or int(max(train[1].max(), test[1].max())) + 1
    if (
        min(int(train[1].min()), int(test[1].min())) < 0
        or max(int(train[1].max()), int(test[1].max())) >= classes
    ):
        raise InputError(f"labels must lie in 0..{classes - 1}", where=name, hint=HINT)
    if mean is None or std is None:
        sample = train[0][:5000].float().div(255)
        mean = tuple(round(v, 4) for v in sample.mean((0, 2, 3)).tolist())
        std = tuple(round(max(v, 1e-3), 4) for v in sample.std((0, 2, 3)).tolist())
    learn, holdout = split_holdout(ArraySplit(*train, mean, std, change))
    channels, height, width = train[0].shape[1:]
    return DataSource(
        name, classes, (channels, height, width), mean, std, learn, holdout, ArraySplit(*test, mean, std)
    )


def _join(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _jpeg_npz(path: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    require_regular(path, most_bytes=_MAX_NPZ_BYTES, hint=HINT)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > _MAX_NPZ_BYTES:
                raise ValueError(f"it has {size} bytes unpacked, at most {_MAX_NPZ_BYTES} are read")
            for member in archive.infolist():
                _require_whole(archive, member)
        with np.load(path, allow_pickle=False) as file:
            return _decode(file, "train"), _decode(file, "test")
    except InputError:
        raise
    except Exception as error:  # a damaged archive, array or picture can raise nearly anything
        raise InputError(
            f"the file cannot be read ({error})", where=str(path), hint="Copy or download it again."
        ) from error


def _require_whole(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise ValueError where an array declares more than it has: numpy would allocate that."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(member) as stream:
        shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} declares more values than it has")


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
