"""Pictures with masks of the same name beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.files import read_text
from dtp_edge.training.data.assemble import assemble, stacked
from dtp_edge.training.data.folders import SUFFIXES, split_kind
from dtp_edge.training.data.joint import IGNORED
from dtp_edge.training.data.masks import MEAN, STD, Masked, Pair
from dtp_edge.training.data.pictures import in_threads, picture_size, read_mask
from dtp_edge.training.data.registry import Ask, Kind
from dtp_edge.training.data.source import DataSource

_HINT = (
    "DIR/images holds pictures, DIR/masks a PNG of the same name for each; or images/train, masks/train, …"
)


def segfolder(folder: Path, size: int, workers: int) -> DataSource:
    """Open `DIR/images` and `DIR/masks`; all masks are read once, before anything is trained."""
    splits = _splits(folder)
    pairs = {kind: _pairs(folder, name) for kind, name in splits.items()}
    names = _class_names(folder)
    most = 0
    for kind, found in pairs.items():
        classes = in_threads(lambda pair: _checked(*pair, limit=len(names)), found, workers)
        if kind == "train":
            most = 1 + max(classes)
        elif not names and max(classes) >= most:
            worst = found[classes.index(max(classes))][1]
            raise InputError(
                f"has the class {max(classes)}, the masks to train with only 0 to {most - 1}",
                where=str(worst),
                hint="Number the classes alike in all splits, or name them all in DIR/classes.txt.",
            )
    sets = {kind: Masked(found, size) for kind, found in pairs.items()}
    held = sets.get("val") if "test" in sets else None
    return assemble(
        "segfolder",
        sets["train"],
        held=held,
        test=sets.get("test", sets.get("val")),
        where=str(folder),
        collate=stacked,
        workers=workers,
        augments=True,
        num_classes=len(names) or most,
        input_shape=(3, size, size),
        mean=MEAN,
        std=STD,
        task="segmentation",
        folders=_spelt(folder, pairs, len(names) or most),
        facts={"ignore_index": IGNORED, "classes": names},
    )


def _splits(folder: Path) -> dict[str, str]:
    """Return the folder below images of each split; a single one without folders is `{"train": ""}`."""
    images = folder / "images"
    if not images.is_dir() or not (folder / "masks").is_dir():
        missing = "images" if not images.is_dir() else "masks"
        raise InputError(f"there is no folder {missing} in it", where=str(folder), hint=_HINT)
    found: dict[str, str] = {}
    for path in sorted(p for p in images.iterdir() if p.is_dir()):
        if (kind := split_kind(path.name)) is not None:
            found.setdefault(kind, path.name)
    if found and "train" not in found:
        raise InputError("has no split to train with", where=str(images), hint=_HINT)
    return dict(sorted(found.items(), key=lambda item: item[0] != "train")) or {"train": ""}


def _pairs(folder: Path, split: str) -> list[Pair]:
    """Return every picture with its mask. Raises `InputError` for either without the other."""
    images, masks = folder / "images" / split, folder / "masks" / split
    pictures = {p.stem: p for p in sorted(images.iterdir()) if p.suffix.lower() in SUFFIXES}
    beside = {p.stem: p for p in sorted(masks.iterdir()) if p.is_file()} if masks.is_dir() else {}
    if not pictures:
        raise InputError("there are no pictures", where=str(images), hint=_HINT)
    for one, other, what in ((pictures, beside, "mask"), (beside, pictures, "picture")):
        if lone := sorted(set(one) - set(other)):
            raise InputError(f"has no {what}", where=str(one[lone[0]]), hint=_HINT)
    return [(path, beside[stem]) for stem, path in pictures.items()]


def _checked(picture: Path, mask: Path, limit: int) -> int:
    """Return the largest class of a mask. Raises `InputError` where the two do not fit."""
    numbers = read_mask(mask)
    if (size := picture_size(picture)) != (found := numbers.shape[::-1]):
        raise InputError(
            f"the mask is {found[0]}x{found[1]}, its picture {size[0]}x{size[1]}",
            where=str(mask),
            hint="Make each mask of its picture's size.",
        )
    classes = numbers[numbers != IGNORED]
    most = int(classes.max()) if classes.size else 0
    if most > IGNORED or (limit and most >= limit):
        y, x = (int(v[0]) for v in (numbers == most).nonzero())
        raise InputError(
            f"has the class {most} at column {x}, row {y}; classes are 0 to {(limit or IGNORED) - 1}",
            where=str(mask),
            hint=f"Classes count from 0; {IGNORED} is ignored.",
        )
    return most


def _class_names(folder: Path) -> list[str]:
    """Return the lines of `classes.txt`, where there is one."""
    path = folder / "classes.txt"
    if not path.exists():
        return []
    return [
        line.strip() for line in read_text(path, most_bytes=1 << 16, hint=_HINT).splitlines() if line.strip()
    ]


def _spelt(folder: Path, pairs: dict[str, list[Pair]], classes: int) -> str:
    counts = ", ".join(f"{kind} {len(found)}" for kind, found in pairs.items())
    return f"{folder}: {classes} classes; pictures: {counts}"


def _open(ask: Ask) -> Any:
    return segfolder(ask.folder(), ask.image_size or 224, ask.workers)


KIND = Kind(
    "segfolder",
    "segfolder:DIR",
    "`images/*.jpg` and `masks/*.png` of the same names (or `images/train`, `masks/train`, …); a mask's "
    "values are classes from 0, 255 is ignored; `classes.txt` may name them, one a line",
    _open,
    extra="vision",
    sized=True,
)
