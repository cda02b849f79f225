"""Images streamed from disk (ImageNet's layout), and data sets that the user's own code makes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dtp_edge.errors import InputError
from dtp_edge.training.data.source import Batch, DataSource, _mix, batches_per_epoch, epoch_order
from dtp_edge.training.data.transforms import imagenet_transforms, seeded

HINT = "docs/own-network.md says how data must lie in the folder, or what the function returns."

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
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
        from PIL import Image, UnidentifiedImageError

        row, seed = index if isinstance(index, tuple) else (index, None)
        path, label = self.files[row]
        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"the picture cannot be read ({error})", where=str(path), hint=HINT) from error
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
    """

    dataset: Any
    rows: Tensor
    workers: int = 0
    augments: bool = False

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

    def _load(self, plan: list[list[Any]]) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(0)  # else the loader draws its seed from the global one
        loader = DataLoader(
            self.dataset,
            batch_sampler=plan,
            num_workers=self.workers,
            collate_fn=_collate,
            generator=generator,
        )
        yield from loader


def imagefolder(folder: Path, size: int, workers: int) -> DataSource:
    """`DIR/train/CLASS/*.jpg` and `DIR/val` (or `test`); with classes only, a fixed fifth is the test set."""
    learn_dir = folder / "train"
    test_dir = next((folder / n for n in ("val", "test") if (folder / n).is_dir()), None)
    if learn_dir.is_dir() and test_dir is not None:
        classes = _classes(learn_dir)
        files, test_files = _list(learn_dir, classes), _list(test_dir, classes)
    else:
        classes = _classes(folder)
        files, test_files = _list(folder, classes), []
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(8))
    if not test_files:
        cut = len(files) // 5
        test_files, order = [files[i] for i in order[:cut].tolist()], order[cut:]
    held = max(1, min(5000, len(order) // 10))
    if len(order) < 10 or not test_files:
        raise InputError(
            "there are too few pictures to train on", where=str(folder), hint="Give at least a dozen."
        )
    data, test = ImageFolder(files, size), ImageFolder(test_files, size)
    return DataSource(  # resumed only with the transforms that it began with
        "imagefolder" if data.transforms is not None else "imagefolder (Pillow)",
        len(classes),
        (3, size, size),
        _MEAN,
        _STD,
        DatasetSplit(data, order[held:], workers, augments=True),
        DatasetSplit(data, order[:held], workers),
        DatasetSplit(test, torch.arange(len(test)), workers),
    )


def user_source(path: Path, attribute: str, workers: int) -> DataSource:
    """Call the user's function; it returns a `DataSource` or two torch datasets."""
    from dtp_edge.zoo.resolve import call_from_file

    made = call_from_file(path, attribute)
    if isinstance(made, DataSource):
        return made
    where = f"{path}:{attribute}"
    if not (isinstance(made, tuple) and len(made) == 2 and all(hasattr(d, "__getitem__") for d in made)):
        raise InputError(
            f"{attribute}() returned {type(made).__name__}",
            where=where,
            hint="Return a dtp_edge.training.DataSource, or (training dataset, test dataset).",
        )
    learn, test = made
    for part, dataset in (("training", learn), ("test", test)):
        if len(dataset) < (10 if part == "training" else 1):
            raise InputError(f"the {part} set has {len(dataset)} samples", where=where, hint=HINT)
    x, _ = _sample(learn, where)
    classes = len(learn.classes) if hasattr(learn, "classes") else 1 + max(_labels(learn))
    order = torch.randperm(len(learn), generator=torch.Generator().manual_seed(8))
    held = max(1, min(5000, len(learn) // 10))
    channels = x.shape[0]
    return DataSource(
        attribute,
        classes,
        (channels, x.shape[1], x.shape[2]),
        (0.0,) * channels,
        (1.0,) * channels,
        DatasetSplit(learn, order[held:], workers),
        DatasetSplit(learn, order[:held], workers),
        DatasetSplit(test, torch.arange(len(test)), workers),
    )


def _sample(dataset: Any, where: str) -> tuple[Tensor, int]:
    try:
        x, y = dataset[0]
        if isinstance(x, Tensor) and x.ndim == 3 and x.is_floating_point():
            return x, int(y)
    except (TypeError, ValueError) as error:
        raise InputError(f"a sample is not (tensor, class): {error}", where=where, hint=HINT) from error
    raise InputError("a sample's first part must be a float tensor [C, H, W]", where=where, hint=HINT)


def _labels(dataset: Any) -> list[int]:
    """Every label: from `targets` as torchvision's datasets have them, else by reading all samples."""
    known = getattr(dataset, "targets", None)
    if known is not None and len(known) == len(dataset):
        return [int(label) for label in known]
    return [int(dataset[i][1]) for i in range(len(dataset))]


def _classes(folder: Path) -> list[str]:
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise InputError(
            "there are no class folders",
            where=str(folder),
            hint="ImageNet's layout is DIR/train/CLASS/picture.jpg.",
        )
    return found


def _list(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    files = [
        (p, i)
        for i, name in enumerate(classes)
        for p in sorted((folder / name).rglob("*"))
        if p.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise InputError("there are no pictures", where=str(folder), hint=f"Read are {', '.join(_SUFFIXES)}.")
    return files


def _collate(samples: list[tuple[Tensor, int]]) -> Batch:
    return torch.stack([s[0] for s in samples]), torch.tensor([int(s[1]) for s in samples])


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
