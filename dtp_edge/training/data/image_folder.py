"""Images streamed from disk (ImageNet's layout), read by worker processes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dtp_edge.training.data.assemble import assemble
from dtp_edge.training.data.folders import class_names, find_splits, list_pictures, same_classes
from dtp_edge.training.data.pictures import read_picture
from dtp_edge.training.data.source import DataSource
from dtp_edge.training.data.transforms import imagenet_transforms, seeded

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet


class ImageFolder(Dataset):
    """Pictures as float32 `[3, size, size]`, normalised. An index `(row, seed)` augments by that seed.

    Cropped, mirrored and normalised by torchvision's transforms v2; without torchvision by Pillow, alike
    but not bit for bit.
    """

    def __init__(self, files: list[tuple[Path, int]], size: int) -> None:
        self.files, self.size = files, size
        self.transforms = imagenet_transforms(size, _MEAN, _STD)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, int]:
        row, seed = index if isinstance(index, tuple) else (index, None)
        path, label = self.files[row]
        picture = read_picture(path)
        if self.transforms is not None:
            learn, score = self.transforms
            return (score(picture) if seed is None else seeded(learn, picture, seed)), label
        return self._by_pillow(picture, seed), label

    def _by_pillow(self, picture: Any, seed: int | None) -> Tensor:
        from PIL import Image

        box, mirror = _centre_box(picture.size) if seed is None else _random_box(picture.size, seed)
        picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        x = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255
        mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (_MEAN, _STD))
        x = (x - mean) / std
        return torch.from_numpy(np.ascontiguousarray(x[:, :, ::-1] if mirror else x))


def imagefolder(folder: Path, size: int, workers: int) -> DataSource:
    """`DIR/train/CLASS/*.jpg` with `DIR/val`, `DIR/test` or both beside it, or `DIR/CLASS/*.jpg`.

    Of `val` and `test` the one that is there is the test set; of both, `val` is held out to choose by.
    Without them a fixed fifth of the pictures is the test set. `folders.find_splits` says which names a
    split may have.
    """
    found = find_splits(folder)
    learn_dir = found.get("train", folder)
    classes = class_names(learn_dir)
    data = ImageFolder(list_pictures(learn_dir, classes), size)
    others = [
        ImageFolder(list_pictures(found[kind], same_classes(found[kind], learn_dir, classes), classes), size)
        for kind in ("val", "test")
        if kind in found
    ]
    return assemble(  # resumed only with the transforms that it began with
        "imagefolder" if data.transforms is not None else "imagefolder (Pillow)",
        data,
        where=str(folder),
        held=others[0] if len(others) == 2 else None,
        test=others[-1] if others else None,
        workers=workers,
        augments=True,
        num_classes=len(classes),
        input_shape=(3, size, size),
        mean=_MEAN,
        std=_STD,
        folders=_spelt(folder, found, len(classes)),
    )


def _spelt(folder: Path, found: dict[str, Path], classes: int) -> str:
    """Say which folders are read as what."""
    if "train" not in found:
        return f"{folder}: {classes} classes; a fifth of the pictures is the test set"
    other = [found[kind].name for kind in ("val", "test") if kind in found]
    unread = sorted(p.name for p in folder.iterdir() if p.is_dir() and p not in found.values())
    rest = f"; not read: {', '.join(unread[:4])}" if unread else ""
    test = f"{other[-1]} to test" if other else "a fifth of it to test"
    held = f"{other[0]} to choose by" if len(other) == 2 else "a tenth of it to choose by"
    return f"{folder}: {classes} classes; {found['train'].name} to train, {held}, {test}{rest}"


def _centre_box(size: tuple[int, int]) -> tuple[tuple[float, float, float, float], bool]:
    """The middle 7/8 of the shorter side (224 of 256, as ImageNet is scored)."""
    side = min(size) * 0.875
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    return (left, top, left + side, top + side), False


def _random_box(size: tuple[int, int], seed: int) -> tuple[tuple[float, float, float, float], bool]:
    """A box of 8 to 100 % of the area and aspect 3:4 to 4:3 (Szegedy et al. 2015), and whether to mirror."""
    rng = np.random.default_rng(seed)
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return (left, top, left + w, top + h), bool(rng.random() < 0.5)
    return _centre_box(size)[0], bool(rng.random() < 0.5)
