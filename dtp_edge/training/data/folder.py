"""Images streamed from disk (ImageNet's layout), read by worker processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dtp_edge.errors import DtpEdgeError, InputError, first_line, users_line
from dtp_edge.training.data.folders import class_names, find_splits, list_pictures, same_classes
from dtp_edge.training.data.pictures import HINT, read_picture
from dtp_edge.training.data.source import Batch, DataSource, _mix, batches_per_epoch, epoch_order
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


@dataclass(frozen=True)
class DatasetSplit:
    """A split over a torch dataset, read by `workers` processes.

    `augments` says that the dataset takes `(row, seed)`; otherwise randomness inside it is the user's.
    `collate` makes a batch of a list of samples, any nest; None: pairs `(tensor, class)`.
    """

    dataset: Any
    rows: Tensor
    workers: int = 0
    augments: bool = False
    collate: Callable[[list[Any]], Batch] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        rows = self.rows.tolist()
        yield from self._load([rows[i : i + batch_size] for i in range(0, len(rows), batch_size)])

    def shuffled(
        self, batch_size: int, *, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        order = self.rows[epoch_order(len(self), seed, epoch)].tolist()
        plan = []
        for batch in range(start, batches_per_epoch(len(self), batch_size)):
            rows = order[batch * batch_size : (batch + 1) * batch_size][rank::world]
            plan.append([(r, _mix(seed, epoch, r)) for r in rows] if self.augments else rows)
        yield from self._load(plan)

    def subset(self, rows: Tensor) -> DatasetSplit:
        return replace(self, rows=self.rows[rows])

    def _load(self, plan: list[list[Any]]) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(0)  # else the loader draws its seed from the global one
        loader = DataLoader(
            Told(self.dataset),
            batch_sampler=plan,
            num_workers=self.workers,
            collate_fn=_pairs if self.collate is None else Collated(self.collate),
            generator=generator,
        )
        for batch in loader:
            if isinstance(batch, DtpEdgeError):
                raise batch
            yield batch


@dataclass(frozen=True)
class Told(Dataset):
    """A dataset whose errors come as values: a worker process would wrap them in its traceback."""

    dataset: Any

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.dataset[index]
        except DtpEdgeError as error:
            return error
        except Exception as error:
            return InputError(
                f"reading sample {index} failed: {type(error).__name__}: {error}",
                where=users_line(error),
                hint=HINT,
            )


@dataclass(frozen=True)
class Collated:
    """A collate function of the user's own, whose errors come as values too."""

    collate: Callable[[list[Any]], Batch]

    def __call__(self, samples: list[Any]) -> Batch | DtpEdgeError:
        for sample in samples:
            if isinstance(sample, DtpEdgeError):
                return sample
        try:
            return self.collate(samples)
        except DtpEdgeError as error:
            return error
        except Exception as error:
            return InputError(
                f"making a batch of {len(samples)} samples failed: {first_line(error, kind=True)}",
                where=users_line(error) or "collate",
                hint="Samples that differ in size need a collate function of your own: docs/tasks.md.",
            )


def imagefolder(folder: Path, size: int, workers: int) -> DataSource:
    """`DIR/train/CLASS/*.jpg` with `DIR/val`, `DIR/test` or both beside it, or `DIR/CLASS/*.jpg`.

    Of `val` and `test` the one that is there is the test set; of both, `val` is held out to choose by.
    Without them a fixed fifth of the pictures is the test set. `folders.find_splits` says which names a
    split may have.
    """
    found = find_splits(folder)
    learn_dir = found.get("train", folder)
    classes = class_names(learn_dir)
    files = list_pictures(learn_dir, classes)
    others = {
        kind: list_pictures(found[kind], same_classes(found[kind], learn_dir, classes), classes)
        for kind in ("val", "test")
        if kind in found
    }
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(8))
    held_files = others.pop("val") if len(others) == 2 else []
    test_files = next(iter(others.values()), [])
    if not others:
        cut = len(files) // 5
        test_files, order = [files[i] for i in order[:cut].tolist()], order[cut:]
    if len(order) < 10 or not test_files:
        raise InputError(
            "there are too few pictures to train on", where=str(folder), hint="Give at least a dozen."
        )
    held = 0 if held_files else max(1, min(5000, len(order) // 10))
    data, test = ImageFolder(files, size), ImageFolder(test_files, size)
    holdout = DatasetSplit(data, order[:held], workers)
    if held_files:
        holdout = DatasetSplit(ImageFolder(held_files, size), torch.arange(len(held_files)), workers)
    return DataSource(  # resumed only with the transforms that it began with
        "imagefolder" if data.transforms is not None else "imagefolder (Pillow)",
        len(classes),
        (3, size, size),
        _MEAN,
        _STD,
        DatasetSplit(data, order[held:], workers, augments=True),
        holdout,
        DatasetSplit(test, torch.arange(len(test)), workers),
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


def _pairs(samples: list[Any]) -> Batch | DtpEdgeError:
    for sample in samples:
        if isinstance(sample, DtpEdgeError):
            return sample
    if len({s[0].shape for s in samples}) > 1:
        sizes = sorted({str(list(s[0].shape)) for s in samples})
        return InputError(f"samples differ in size: {', '.join(sizes[:3])}", where="--data", hint=HINT)
    x = torch.stack([s[0] for s in samples])
    return x.float() if x.is_floating_point() else x, torch.tensor([int(s[1]) for s in samples])


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
