"""Which task arrays are for: what is wanted of the inputs says it by its type and shape."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.training.data.joint import IGNORED

__all__ = ["HINT", "Arrays", "Task", "task_of"]

HINT = "np.savez writes one: x and y, or x_train, y_train, x_test, y_test (and x_val, y_val); docs/data.md."
_MOST_CLASSES = 1 << 16
Arrays = dict[str, tuple[Tensor, Tensor | None]]  # x and y of each split


class Task(NamedTuple):
    """What y looks like: the objective, and its number of classes."""

    objective: str
    classes: int | None = None


def task_of(parts: Arrays, where: str) -> Task:
    """Classes `[N]`, masks `[N, H, W]`, 0 and 1 `[N, K]`, images `[N, C, H, W]`, numbers; or no y at all."""
    x, y = parts["train"]
    for kind, (other, wanted) in parts.items():
        shapes = other.shape[1:] == x.shape[1:] and (wanted is None) == (y is None)
        if not shapes or (wanted is not None and y is not None and wanted.shape[1:] != y.shape[1:]):
            raise InputError(
                f"{kind} has other shapes than train", where=where, hint="Bring all to one size."
            )
    if y is None:
        return Task("no-labels")
    if y.is_floating_point():
        return Task("image-to-image" if y.dim() == 4 and x.dim() == 4 else "regression")
    if y.dim() == 2 and y.dtype in (torch.bool, torch.uint8) and int(y.max()) <= 1:
        return Task("multi-label", y.shape[1])
    if y.dim() == 1 or (y.dim() == 3 and x.dim() == 4 and y.shape[1:] == x.shape[2:]):
        ignored = IGNORED if y.dim() == 3 else -1
        return Task("classification" if y.dim() == 1 else "segmentation", _count(parts, ignored, where))
    if y.dim() == 4 and y.dtype == torch.uint8:
        return Task("image-to-image")
    raise InputError(f"y is {y.dtype} {list(y.shape)}: which task is it?", where=where, hint=HINT)


def _count(parts: Arrays, ignored: int, where: str) -> int:
    """Return the number of classes of train; none of another split may be beyond them."""
    count = 0
    for kind, (_, y) in parts.items():
        if y is None:
            continue
        flat = y.reshape(len(y), -1).long()
        flat = torch.where(flat == ignored, 0, flat)
        count = 1 + int(flat.max()) if kind == "train" else count
        wrong = ((flat < 0) | (flat >= min(count, _MOST_CLASSES))).any(1)
        if bool(wrong.any()):
            row = int(wrong.int().argmax())
            worst = int(flat[row].min()) if int(flat[row].min()) < 0 else int(flat[row].max())
            what = (
                f"y of {kind}[{row}] has the class {worst}, not one from 0 to {min(count, _MOST_CLASSES) - 1}"
            )
            raise InputError(what, where=where, hint="Number the classes alike in all splits, from 0.")
    return count
