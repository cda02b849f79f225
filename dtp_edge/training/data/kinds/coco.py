"""Detection data as COCO has it: a folder of pictures and a JSON file of boxes."""

from __future__ import annotations

from pathlib import Path

from dtp_edge.errors import InputError
from dtp_edge.training.data.assemble import assemble
from dtp_edge.training.data.boxes import Boxed, check_pictures, with_targets
from dtp_edge.training.data.coco_file import Pictures, read_coco
from dtp_edge.training.data.registry import Ask, Kind, existing
from dtp_edge.training.data.source import DataSource

_FORM = "coco:IMAGES,ANNOTATIONS.json[,TEST_IMAGES,TEST_ANNOTATIONS.json]"


def coco(parts: list[tuple[Path, Path]], size: int, workers: int) -> DataSource:
    """Open one pair of folder and file, and a second one to test with; every entry is checked."""
    found = [read_coco(images, file) for images, file in parts]
    for pictures in found:
        check_pictures(pictures.found, workers)
    if len(found) == 2 and found[0].classes != found[1].classes:
        raise InputError(
            "has other categories than the file to train with",
            where=str(parts[1][1]),
            hint="Give both files the same categories, with the same ids.",
        )
    learn = found[0]
    return assemble(
        "coco",
        Boxed(learn.found, size),
        test=Boxed(found[1].found, size) if len(found) == 2 else None,
        where=str(parts[0][1]),
        collate=with_targets,
        workers=workers,
        augments=True,
        num_classes=len(learn.classes),
        input_shape=(),  # detectors take a list of pictures and bring them to their own size
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        task="detection",
        folders="; ".join(_spelt(file, pictures) for (_, file), pictures in zip(parts, found, strict=True)),
        facts={"classes": learn.classes},
    )


def _spelt(file: Path, pictures: Pictures) -> str:
    boxes = sum(len(one.boxes) for one in pictures.found)
    crowds = f", {pictures.crowds} crowds left out" if pictures.crowds else ""
    return f"{file}: {len(pictures.found)} pictures, {boxes} boxes of {len(pictures.classes)} classes{crowds}"


def _open(ask: Ask) -> DataSource:
    words = ask.rest.split(",")
    if len(words) not in (2, 4) or not all(words):
        raise InputError("this is not a folder and a file", where=ask.spec, hint=f"Write {_FORM}.")
    pairs = zip(words[::2], words[1::2], strict=True)
    parts = [(existing(images, ask.spec), Path(file).expanduser()) for images, file in pairs]
    return coco(parts, ask.image_size or 320, ask.workers)


KIND = Kind(
    "coco",
    "coco:IMAGES,ANNOTATIONS.json",
    "pictures and COCO's boxes; a second pair behind a comma is the test set (without one a fifth is kept "
    "for it); for torchvision's detectors",
    _open,
    extra="vision,tasks",
    sized=True,
)
