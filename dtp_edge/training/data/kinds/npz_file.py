"""Arrays in one file: inputs x and what is wanted of them, y; what y looks like says which task it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from dtp_edge.errors import InputError
from dtp_edge.files import read_npz
from dtp_edge.training.data.array_tasks import HINT, Task, task_of
from dtp_edge.training.data.assemble import assemble, stacked
from dtp_edge.training.data.joint import IGNORED
from dtp_edge.training.data.registry import Kind
from dtp_edge.training.data.source import DataSource

_MOST_BYTES = 1 << 33


def npz_file(path: Path) -> DataSource:
    """Open a file of arrays. Raises `InputError` with the array and the sample that is wrong."""
    arrays = read_npz(path, most_bytes=_MOST_BYTES, hint=HINT)
    parts = {kind: _part(arrays, end, str(path)) for kind, end in _ends(arrays, str(path)).items()}
    task = task_of(parts, str(path))
    learn = parts["train"][0]
    as_image = learn.dtype == torch.uint8
    learn = learn[:5000].float() / (255 if as_image else 1)
    mean, std = _moments(learn) if as_image else ((), ())
    sets = {kind: TensorDataset(_ready(x, mean, std), *_wanted(y, task)) for kind, (x, y) in parts.items()}
    return assemble(
        "npz",
        sets["train"],
        held=sets.get("val") if "test" in sets else None,
        test=sets.get("test", sets.get("val")),
        where=str(path),
        collate=stacked if task.objective != "no-labels" else _alone,
        num_classes=task.classes,
        input_shape=tuple(parts["train"][0].shape[1:]),
        mean=mean,
        std=std,
        task=task.objective,
        folders=f"{path}: {len(sets['train'])} samples, {task.objective}",
        facts={"ignore_index": IGNORED} if task.objective == "segmentation" else {},
    )


def _ends(arrays: dict[str, np.ndarray], where: str) -> dict[str, str]:
    """Return what stands behind x and y in the names of each split's arrays."""
    if "x" in arrays:
        found = {"train": ""}
    else:
        found = {kind: f"_{kind}" for kind in ("train", "val", "test") if f"x_{kind}" in arrays}
    known = {f"{v}{end}" for end in found.values() for v in "xy"}
    if "train" not in found or (stray := sorted(set(arrays) - known)):
        what = (
            f"holds {', '.join(sorted(arrays)[:6]) or 'nothing'}"
            if "train" not in found
            else (f"holds {stray[0]!r}, which is neither x nor y")
        )
        raise InputError(what, where=where, hint=HINT)
    return found


def _part(arrays: dict[str, np.ndarray], end: str, where: str) -> tuple[Tensor, Tensor | None]:
    x, y = arrays[f"x{end}"], arrays.get(f"y{end}")
    for name, array in ((f"x{end}", x), (f"y{end}", y)):
        if array is None:
            continue
        if array.dtype.kind not in "fiub" or not array.ndim or not len(array):
            raise InputError(f"{name} is {array.dtype} {list(array.shape)}", where=where, hint=HINT)
        if array.dtype.kind == "f" and not (fine := np.isfinite(array.reshape(len(array), -1)).all(1)).all():
            first = int(fine.argmin())
            raise InputError(f"{name}[{first}] holds NaN or infinity", where=where, hint="Correct the data.")
    if x.ndim < 2:
        raise InputError(
            f"x{end} is {list(x.shape)}", where=where, hint="Samples come first: [N, C, H, W], [N, F]."
        )
    if y is not None and len(y) != len(x):
        raise InputError(f"x{end} has {len(x)} samples, y{end} {len(y)}", where=where, hint=HINT)
    return _tensor(x), None if y is None else _tensor(y)


def _tensor(array: np.ndarray) -> Tensor:
    wide = array.astype(np.int64) if array.dtype.kind in "iu" and array.dtype != np.uint8 else array
    return torch.from_numpy(
        np.ascontiguousarray(wide.astype(np.float32) if array.dtype.kind == "f" else wide)
    )


def _moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    over = (0, *range(2, images.dim()))
    mean, std = images.mean(over), images.std(over).clamp_min(1e-3)
    return tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in std.tolist())


def _ready(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    if not mean:
        return x
    shape = (1, -1, *[1] * (x.dim() - 2))
    return (x.float() / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)


def _wanted(y: Tensor | None, task: Task) -> tuple[Tensor, ...]:
    if y is None:
        return ()
    if task.objective == "image-to-image" and y.dtype == torch.uint8:
        return (y.float() / 255,)
    return (y if y.is_floating_point() else y.long(),)


def _alone(samples: list[tuple[Tensor, ...]]) -> Tensor:
    return torch.stack([sample[0] for sample in samples])


KIND = Kind(
    "npz",
    "npz:FILE",
    "arrays `x` and `y` (or `x_train`, `y_train`, `x_test`, `y_test`); the shape of `y` says the task: "
    "classes, masks, numbers, images, 0 and 1; without `y` there are no labels",
    lambda ask: npz_file(ask.file()),
)
