"""COCO's annotations as values: every entry is checked, and named by its place where it is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.files import Bounds, read_json

__all__ = ["Annotated", "Pictures", "read_coco"]

_MOST_BYTES = 1 << 30
_BOUNDS = Bounds(values=60_000_000, keys=1_000, text=1_000_000)  # instances_train2017.json has 30 million
_HINT = "COCO's file has images (id, file_name), annotations (image_id, category_id, bbox), categories (id)."
_SLACK = 1.0  # pixels that a box may reach over the edge: it is cut there


@dataclass(frozen=True)
class Annotated:
    """One picture: boxes x1 y1 x2 y2 in pixels, labels from 0."""

    path: Path
    size: tuple[int, int]
    boxes: list[tuple[float, float, float, float]]
    labels: list[int]


@dataclass(frozen=True)
class Pictures:
    """The pictures of one file; `crowds` annotations were left out, as COCO's own evaluation does."""

    classes: list[str]
    found: list[Annotated]
    crowds: int = 0


def read_coco(images: Path, file: Path) -> Pictures:
    """Read one annotation file. Raises `InputError` with the entry that is wrong."""
    document = read_json(file, most_bytes=_MOST_BYTES, hint=_HINT, bounds=_BOUNDS)
    return checked(document, images, str(file))


def checked(document: Any, images: Path, where: str) -> Pictures:
    """Return what a document says. Raises `InputError` with the JSON path of the first wrong entry."""
    parts = {name: _entries(document, name, where) for name in ("categories", "images", "annotations")}
    numbers, names = _categories(parts["categories"], where)
    found = _images(parts["images"], images, where)
    crowds = 0
    for i, entry in enumerate(parts["annotations"]):
        place = f"{where}: annotations[{i}]"
        picture = found.get(_key(entry, "image_id", place))
        if picture is None:
            raise InputError(f"image_id {entry['image_id']!r} is none of the images", where=place, hint=_HINT)
        label = numbers.get(_key(entry, "category_id", place))
        if label is None:
            raise InputError(
                f"category_id {entry['category_id']!r} is none of the categories", where=place, hint=_HINT
            )
        if entry.get("iscrowd"):
            crowds += 1
            continue
        picture.boxes.append(_box(entry.get("bbox"), picture.size, place))
        picture.labels.append(label)
    if not any(picture.boxes for picture in found.values()):
        raise InputError("has no boxes", where=where, hint=_HINT)
    return Pictures(names, list(found.values()), crowds)


def _entries(document: Any, name: str, where: str) -> list[dict[str, Any]]:
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, list) or not found:
        raise InputError(f"has no list of {name}", where=where, hint=_HINT)
    for i, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise InputError("is not an object", where=f"{where}: {name}[{i}]", hint=_HINT)
    return found


def _key(entry: dict[str, Any], name: str, place: str) -> int | str:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{name} is {str(value)[:60]!r}, not a number or a text", where=place, hint=_HINT)
    return value


def _categories(entries: list[dict[str, Any]], where: str) -> tuple[dict[int | str, int], list[str]]:
    """Return which class each id is, in the order of the ids, and the names in that order."""
    names: dict[int | str, str] = {}
    for i, entry in enumerate(entries):
        place = f"{where}: categories[{i}]"
        if (key := _key(entry, "id", place)) in names:
            raise InputError(f"the id {key!r} is given twice", where=place, hint=_HINT)
        names[key] = str(entry.get("name", key))[:100]
    order = sorted(names, key=lambda key: (isinstance(key, str), key))
    return {key: i for i, key in enumerate(order)}, [names[key] for key in order]


def _images(entries: list[dict[str, Any]], folder: Path, where: str) -> dict[int | str, Annotated]:
    found: dict[int | str, Annotated] = {}
    for i, entry in enumerate(entries):
        place = f"{where}: images[{i}]"
        if (key := _key(entry, "id", place)) in found:
            raise InputError(f"the id {key!r} is given twice", where=place, hint=_HINT)
        size = (entry.get("width"), entry.get("height"))
        if not all(isinstance(v, int) and not isinstance(v, bool) and 0 < v <= 1 << 16 for v in size):
            raise InputError(f"width and height are {size[0]!r} and {size[1]!r}", where=place, hint=_HINT)
        found[key] = Annotated(_inside(folder, entry.get("file_name"), place), size, [], [])  # type: ignore[arg-type]
    return found


def _inside(folder: Path, name: Any, place: str) -> Path:
    """Return the file below `folder`: a name that leads out of it is refused."""
    plain = PurePosixPath(name) if isinstance(name, str) and name and "\0" not in name else None
    if plain is None or plain.is_absolute() or ".." in plain.parts or "\\" in str(name):
        raise InputError(f"file_name {str(name)[:80]!r} is no file below the folder", where=place, hint=_HINT)
    return folder / plain


def _box(given: Any, size: tuple[int, int], place: str) -> tuple[float, float, float, float]:
    numbers = isinstance(given, list) and len(given) == 4
    if not numbers or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in given):
        raise InputError(f"bbox is {str(given)[:60]}, not [x, y, width, height]", where=place, hint=_HINT)
    x, y, width, height = (float(v) for v in given)
    if width <= 0 or height <= 0:
        raise InputError(
            f"the box is empty: {width:g} x {height:g}", where=place, hint="Remove it, or mend it."
        )
    outside = x < -_SLACK or y < -_SLACK or x + width > size[0] + _SLACK or y + height > size[1] + _SLACK
    box = (max(0.0, x), max(0.0, y), min(float(size[0]), x + width), min(float(size[1]), y + height))
    if outside or box[0] >= box[2] or box[1] >= box[3]:
        raise InputError(
            f"the box {[x, y, width, height]} reaches out of its picture of {size[0]}x{size[1]}",
            where=place,
            hint="Boxes are x, y, width, height in pixels, not shares of the picture.",
        )
    return box
