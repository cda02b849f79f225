"""What the user means by --data and --calibrate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError, nearest
from dtp_edge.graph.user_code import call_from_file
from dtp_edge.training.data import readers, unlabelled
from dtp_edge.training.data.folder import imagefolder
from dtp_edge.training.data.own import user_source
from dtp_edge.training.data.source import DataSource

_KINDS = ("digits", "cifar10", "fashion-mnist", "imagefolder")


def load_data(spec: str, image_size: int | None = None, workers: int = 2) -> DataSource:
    """Open `digits`, `cifar10:DIR`, `fashion-mnist[:DIR]`, `imagefolder:DIR` or `file.py:callable`.

    `image_size` is the side of the square that digits and image folders are brought to (32 and 224 if
    None); `workers` read image folders. The callable returns a `DataSource`, or
    `(training set, test set)` of torch datasets that give `(float tensor, int)`, say `[C, H, W]` or `[C, L]`.
    Raises `InputError`.
    """
    kind, colon, rest = spec.partition(":")
    if kind == "digits":
        return readers.digits(image_size or 32)
    if kind == "fashion-mnist" and not rest:
        place = next((p for p in readers.fashion_mnist_places() if p.is_dir()), None)
        if place is None:
            raise InputError(
                "no Fashion-MNIST is installed on this machine",
                where=spec,
                hint="Name its folder, fashion-mnist:DIR, or install Debian's dataset-fashion-mnist.",
            )
        return readers.fashion_mnist(place)
    if kind in _KINDS:
        folder = _existing(rest, spec)
        if kind == "cifar10":
            return readers.cifar10(folder)
        if kind == "fashion-mnist":
            return readers.fashion_mnist(folder)
        return imagefolder(folder, image_size or 224, workers)
    path, colon, attribute = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return user_source(Path(path), attribute, workers)
    near = nearest(kind, _KINDS)
    raise InputError(
        "this is not a data source",
        where=spec,
        hint=f"Did you mean {', '.join(near)}?"
        if near
        else "Give digits, cifar10:DIR, fashion-mnist:DIR, imagefolder:DIR or file.py:callable.",
    )


def load_inputs(spec: str, image_size: int | None = None, workers: int = 2) -> DataSource | Iterable[Any]:
    """Open inputs to calibrate on: what `load_data` opens (labels are ignored), or inputs that have no
    labels.

    Those are `images:DIR` (pictures in one folder), `npz:FILE` (arrays in the order of the network's
    arguments) and `file.py:callable` that returns batches. Raises `InputError`.
    """
    kind, _, rest = spec.partition(":")
    if kind == "images":
        return unlabelled.pictures(_existing(rest, spec), image_size or 224, workers)
    if kind == "npz":
        return unlabelled.arrays(_existing(rest, spec))
    path, colon, attribute = spec.rpartition(":")
    if colon and path.endswith(".py"):
        made = call_from_file(Path(path), attribute)
        sets = isinstance(made, tuple) and all(hasattr(part, "__getitem__") for part in made)
        return user_source(Path(path), attribute, workers) if sets else made
    return load_data(spec, image_size, workers)


def _existing(rest: str, spec: str) -> Path:
    if not rest:
        raise InputError("the folder is missing", where=spec, hint=f"Write {spec.rstrip(':')}:DIR.")
    folder = Path(rest).expanduser()
    if not folder.exists():
        raise InputError("there is no such folder", where=rest, hint="Check the path after the colon.")
    if folder.is_dir() and not any(folder.iterdir()):
        raise InputError(
            "the folder is empty", where=rest, hint="Put the data there, or name another folder."
        )
    return folder
