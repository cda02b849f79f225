"""Data sets that the user's own code makes, checked before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dtp_edge.errors import DtpEdgeError, InputError
from dtp_edge.graph.user_code import call_from_file
from dtp_edge.training.data.dataset_split import DatasetSplit, Told
from dtp_edge.training.data.own_task import check_by_index, own_task
from dtp_edge.training.data.pictures import HINT
from dtp_edge.training.data.source import DataSource


def user_source(path: Path, attribute: str, workers: int) -> DataSource:
    """Call the user's function: it returns a `DataSource`, two torch datasets, or a dict (`own_task`).

    Samples of the two are `(float tensor, class)`, the tensor of any shape and precision: it becomes float32.
    """
    made = call_from_file(path, attribute)
    if isinstance(made, DataSource):
        return made
    where = f"{path}:{attribute}"
    if isinstance(made, Mapping):
        return own_task(made, attribute, where, workers)
    if not (isinstance(made, tuple) and len(made) == 2):
        raise InputError(
            f"{attribute}() returned {type(made).__name__}",
            where=where,
            hint="Return a dtp_edge.training.DataSource, (training dataset, test dataset), or a dict.",
        )
    learn, test = made
    for part, dataset in (("training", learn), ("test", test)):
        check_by_index(part, dataset, where)
        if len(dataset) < (10 if part == "training" else 1):
            raise InputError(f"the {part} set has {len(dataset)} samples", where=where, hint=HINT)
    x = _sample(learn, where)
    if (other := _sample(test, where).shape) != x.shape:
        raise InputError(
            f"the first test sample is {list(other)}, the first training sample {list(x.shape)}",
            where=where,
            hint="Bring both to one size.",
        )
    known = len(learn.classes) if hasattr(learn, "classes") else 0
    classes = known or 1 + max(_labels(learn, where))
    if (largest := max(_labels(test, where))) >= classes:
        raise InputError(
            f"the test set has the class {largest}, the training set only 0 to {classes - 1}",
            where=where,
            hint="Number the classes alike in both, from 0.",
        )
    order = torch.randperm(len(learn), generator=torch.Generator().manual_seed(8))
    held = max(1, min(5000, len(learn) // 10))
    channels = x.shape[0]
    return DataSource(
        attribute,
        classes,
        tuple(x.shape),
        (0.0,) * channels,
        (1.0,) * channels,
        DatasetSplit(learn, order[held:], workers),
        DatasetSplit(learn, order[:held], workers),
        DatasetSplit(test, torch.arange(len(test)), workers),
    )


def _sample(dataset: Any, where: str) -> Tensor:
    """Return the first sample's input; it must be finite."""
    found = Told(dataset)[0]
    if isinstance(found, DtpEdgeError):
        raise found
    if not (isinstance(found, Sequence) and len(found) == 2) or isinstance(found, str):
        raise InputError(f"a sample is {type(found).__name__}, not (tensor, class)", where=where, hint=HINT)
    x = found[0]
    if not (isinstance(x, Tensor) and 1 <= x.ndim <= 4 and x.is_floating_point()):
        what = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            f"a sample's first part is {what}, not a float tensor [C, H, W], [C, L] or the like",
            where=where,
            hint="Give what the network reads, normalised; for uint8 images use training.from_arrays.",
        )
    if not bool(torch.isfinite(x).all()):
        raise InputError("the first sample holds NaN or infinity", where=where, hint="Correct the data.")
    return x


def _labels(dataset: Any, where: str) -> list[int]:
    """Every label: from `targets` as torchvision's datasets have them, else by reading all samples."""
    targets = getattr(dataset, "targets", None)
    if targets is not None and len(targets) == len(dataset):
        return [_label(label, i, where) for i, label in enumerate(targets)]
    told, labels = Told(dataset), []
    for i in range(len(dataset)):
        found = told[i]
        if isinstance(found, DtpEdgeError):
            raise found
        labels.append(_label(found[1], i, where))
    return labels


def _label(given: Any, index: int, where: str) -> int:
    try:
        label = int(given)
        if label == given and label >= 0:
            return label
    except (TypeError, ValueError, RuntimeError):
        pass
    raise InputError(
        f"the class of sample {index} is {str(given)[:60]}, not a whole number from 0 up",
        where=where,
        hint="Give the class's number; one-hot labels become one by argmax().",
    )
