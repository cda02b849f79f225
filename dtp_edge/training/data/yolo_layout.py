"""Ultralytics' layout of a detection set as values: its yaml, its pictures and their label files, checked.

Its own reader leaves out what it cannot read, with a warning. Here a wrong line is named before training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.files import read_text
from dtp_edge.training.data.pictures import in_threads, picture_size

__all__ = ["Layout", "read_layout"]

_MOST_BYTES, _MOST_LABEL_BYTES = 1 << 22, 1 << 24
_HINT = "As Ultralytics has it: path, train, val, test (folders of pictures), names; labels lie in labels/."
_FORMATS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_SLACK = 1e-3  # by which a box may reach over the edge


@dataclass(frozen=True)
class Layout:
    """Class names, and the pictures of each split that the yaml names."""

    names: list[str]
    splits: dict[str, list[Path]]
    boxes: int


def read_layout(file: Path, workers: int) -> Layout:
    """Read a yaml and check every picture and label that it leads to.

    **Raises:** `InputError` with the file, and the line of a label file, that is wrong.
    """
    document = _document(file)
    names = _names(document.get("names"), file)
    root = Path(str(document.get("path") or "."))
    root = root if root.is_absolute() else file.parent / root
    splits = {
        split: _pictures(document[split], root, f"{file}: {split}")
        for split in ("train", "val", "test")
        if document.get(split)
    }
    if "train" not in splits:
        raise InputError("names no train", where=str(file), hint=_HINT)
    boxes = 0
    for found in splits.values():
        boxes += sum(in_threads(lambda path: _checked(path, len(names)), found, workers))
    if not boxes:
        raise InputError("has no boxes", where=str(file), hint=_HINT)
    return Layout(names, splits, boxes)


def _document(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise InputError("PyYAML is not installed", hint='pip install "dtp-edge[ultralytics]"') from error
    text = read_text(file, most_bytes=_MOST_BYTES, hint=_HINT)
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = str(error).splitlines()[0]
        raise InputError(f"is not a yaml file ({said})", where=str(file), hint=_HINT) from error
    if not isinstance(found, dict):
        raise InputError("holds no names and folders", where=str(file), hint=_HINT)
    return found


def _names(given: Any, file: Path) -> list[str]:
    if isinstance(given, dict) and sorted(given, key=str) == sorted(range(len(given)), key=str):
        given = [given[i] for i in range(len(given))]
    if not isinstance(given, list) or not given:
        raise InputError(
            "names is no list, and no map from 0, 1, … to a name", where=f"{file}: names", hint=_HINT
        )
    return [str(name)[:100] for name in given]


def _pictures(given: Any, root: Path, where: str) -> list[Path]:
    if not isinstance(given, str):
        raise InputError("is not the name of a folder", where=where, hint=_HINT)
    folder = Path(given) if Path(given).is_absolute() else root / given
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", where=where, hint=_HINT)
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _FORMATS)
    if not found:
        raise InputError(f"{folder} holds no pictures", where=where, hint=_HINT)
    if "images" not in folder.parts:
        raise InputError(
            f"{folder} has no `images` in its path, for which `labels` stands in that of its labels",
            where=where,
            hint=_HINT,
        )
    return found


def label_file(picture: Path) -> Path:
    """Return where the labels of a picture lie: `labels` in place of the last `images`, and `.txt`."""
    parts = list(picture.parts)
    at = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")


def _checked(picture: Path, classes: int) -> int:
    """Return how many boxes a picture has; without a label file it has none."""
    picture_size(picture)
    file = label_file(picture)
    if not file.exists() or file.stat().st_size == 0:
        return 0
    lines = read_text(file, most_bytes=_MOST_LABEL_BYTES, hint=_HINT).splitlines()
    count = 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            _check_line(line, classes, f"{file}:{number}")
            count += 1
    return count


def _check_line(line: str, classes: int, where: str) -> None:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != 5:
        raise InputError(
            f"is {line.strip()[:60]!r}, not a class and x, y, width, height",
            where=where,
            hint="Boxes are their centre and size as shares of the picture, five numbers a line.",
        )
    label, x, y, width, height = values
    if label != int(label) or not 0 <= label < classes:
        raise InputError(
            f"the class {label:g} is none of the {classes} names", where=where, hint="Classes count from 0."
        )
    if not (width > 0 and height > 0):
        raise InputError(f"the box is empty: {width:g} x {height:g}", where=where, hint="Remove the line.")
    low, high = min(x - width / 2, y - height / 2), max(x + width / 2, y + height / 2)
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise InputError(
            f"the box {x:g} {y:g} {width:g} {height:g} reaches out of its picture",
            where=where,
            hint="Boxes are shares of the picture, 0 to 1, not pixels.",
        )
