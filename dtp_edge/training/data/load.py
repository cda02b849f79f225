"""What the user means by --data and --calibrate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError, nearest
from dtp_edge.graph.user_code import call_from_file
from dtp_edge.training.data import unlabelled
from dtp_edge.training.data.own import user_source
from dtp_edge.training.data.registry import Ask, existing, kinds
from dtp_edge.training.data.source import DataSource


def load_data(spec: str, image_size: int | None = None, workers: int = 2) -> DataSource:
    """Open a data set by name (docs/data.md has them all), or `file.py:callable`.

    `image_size` is the side of the square that pictures of any size are brought to (None: 32 for digits, 224
    for folders); `workers` read from disk. The callable returns a `DataSource`, `(training set, test set)` of
    torch datasets, or a dict with `train`, `test`, `objective` and `loader`.
    Raises `InputError`.
    """
    name, _, rest = spec.partition(":")
    if name in kinds():
        return kinds()[name].open(Ask(spec, rest, image_size, workers))
    path, colon, attribute = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return user_source(Path(path), attribute, workers)
    near = nearest(name, kinds())
    forms = ", ".join(kind.form for kind in kinds().values())
    raise InputError(
        "this is not a data source",
        where=spec,
        hint=f"Did you mean {', '.join(near)}?" if near else f"Give {forms} or file.py:callable.",
    )


def load_inputs(spec: str, image_size: int | None = None, workers: int = 2) -> DataSource | Iterable[Any]:
    """Open inputs to calibrate on: what `load_data` opens (labels are ignored), or inputs that have no
    labels.

    Those are `images:DIR` (pictures in one folder), `npz:FILE` (arrays in the order of the network's
    arguments, if they are not named as `--data` has them) and `file.py:callable` that returns batches.
    Raises `InputError`.
    """
    kind, _, rest = spec.partition(":")
    if kind == "images":
        return unlabelled.pictures(existing(rest, spec), image_size or 224, workers)
    if kind == "npz":
        return unlabelled.arrays(existing(rest, spec), Ask(spec, rest, image_size, workers))
    path, colon, attribute = spec.rpartition(":")
    if colon and path.endswith(".py"):
        made = call_from_file(Path(path), attribute)
        sets = isinstance(made, tuple) and all(hasattr(part, "__getitem__") for part in made)
        return user_source(Path(path), attribute, workers) if sets else made
    return load_data(spec, image_size, workers)
