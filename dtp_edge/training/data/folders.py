"""How pictures lie in a folder: which folders are splits, which are classes, and what is neither.

A split is known by its name, in any case and by the usual other words for it, and by having class folders
inside. Read as a class, a split makes a wrong network without a word; so what may be either is refused.
"""

from __future__ import annotations

from pathlib import Path

from dtp_edge.errors import InputError

SPLITS = {
    "train": ("train", "training", "trainset", "train_set"),
    "val": ("val", "valid", "validation", "valset", "val_set", "dev", "eval"),
    "test": ("test", "testing", "testset", "test_set"),
}
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_HINT = "ImageNet's layout is DIR/train/CLASS/picture.jpg, with DIR/val, DIR/test or both beside train."


def split_kind(name: str) -> str | None:
    """Return which split a folder's name stands for: "train", "val", "test"; None for any other name."""
    plain = name.lower().replace("-", "_")
    return next((kind for kind, names in SPLITS.items() if plain in names), None)


def find_splits(folder: Path) -> dict[str, Path]:
    """Return the folder of each split; empty where `folder` has class folders instead.

    Raises `InputError` where two folders are the same split, where `val` or `test` have no `train`, and
    where a class folder has the name of a split.
    """
    found: dict[str, Path] = {}
    inside = _folders(folder)
    for path in inside:
        kind = split_kind(path.name)
        if kind is None or not _folders(path):
            continue
        if kind in found:
            what = f"{found[kind].name} and {path.name} are both the {kind} split"
            raise InputError(what, where=str(folder), hint="Join them, or move one of them away.")
        found[kind] = path
    if found and "train" not in found:
        first = next(iter(found.values())).name
        raise InputError(f"has {first}, and no train beside it", where=str(folder), hint=_HINT)
    if not found:
        _refuse_splits_as_classes(folder, [path.name for path in inside])
    return found


def class_names(folder: Path) -> list[str]:
    """Return the class folders of a split, sorted; two at least."""
    names = [path.name for path in _folders(folder)]
    if not names:
        raise InputError("there are no class folders", where=str(folder), hint=_HINT)
    _refuse_splits_as_classes(folder, names)
    return names


def same_classes(folder: Path, learn_dir: Path, classes: list[str]) -> list[str]:
    """Return the class folders of another split, which must be among those of training."""
    names = class_names(folder)
    if strange := sorted(set(names) - set(classes)):
        raise InputError(
            f"has the class {strange[0]!r}, which {learn_dir.name} does not have",
            where=str(folder),
            hint=f"Both must have the same class folders; {learn_dir.name} has {', '.join(classes[:6])}.",
        )
    return names


def list_pictures(folder: Path, names: list[str], classes: list[str] | None = None) -> list[tuple[Path, int]]:
    """Return every picture in the folders `names` with its class, the name's place in `classes`."""
    return list_files(folder, names, SUFFIXES, classes or names, "pictures")


def list_files(
    folder: Path, names: list[str], suffixes: tuple[str, ...], classes: list[str], what: str = "recordings"
) -> list[tuple[Path, int]]:
    """Return every file of these kinds in the folders `names` with its class. Raises `InputError`."""
    files = []
    for name in names:
        label = classes.index(name)
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in suffixes)
        if not found:
            hint = f"Read are {', '.join(suffixes)}. Put some there, or remove the folder."
            raise InputError(f"there are no {what}", where=str(folder / name), hint=hint)
        files += [(path, label) for path in found]
    return files


def _refuse_splits_as_classes(folder: Path, names: list[str]) -> None:
    """A class may be called train (a vehicle), among two others; no class is called test or validation."""
    kinds = {name: kind for name in names if (kind := split_kind(name)) is not None}
    plain = len(names) - len(kinds)
    if kinds and (set(kinds.values()) != {"train"} or plain < 2):
        name = next(iter(kinds))
        raise InputError(
            f"the class folder {name!r} looks like a split",
            where=str(folder),
            hint=f"{_HINT} Rename it if it is a class.",
        )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
