"""A data source from arrays in memory."""

from __future__ import annotations

from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.training.data.augment import Augment
from dtp_edge.training.data.source import ArraySplit, DataSource, split_holdout
from dtp_edge.training.data.transforms import PerImage, Transform

HINT = "docs/data.md says how data must lie in the folder, or what the function returns."


def from_arrays(
    name: str,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    num_classes: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    augment: Augment | Transform | None = None,
) -> DataSource:
    """A data source from `(images uint8 [N, C, H, W], labels int64 [N])` pairs; what is None is inferred.

    `augment` is `Augment(shift, flip)`, or any transform of torchvision's v2 (applied to one image at a
    time, with draws that depend on the run's seed, the epoch and the batch alone).
    """
    augment = augment or Augment()
    change = augment if isinstance(augment, Augment) else PerImage(augment)
    for part, (images, labels) in (("training", train), ("test", test)):
        if images.ndim != 4 or len(images) != len(labels) or not len(labels):
            raise InputError(
                f"the {part} part has images {list(images.shape)} and labels {list(labels.shape)}",
                where=name,
                hint=HINT,
            )
    classes = num_classes or int(max(train[1].max(), test[1].max())) + 1
    if (
        min(int(train[1].min()), int(test[1].min())) < 0
        or max(int(train[1].max()), int(test[1].max())) >= classes
    ):
        raise InputError(f"labels must lie in 0..{classes - 1}", where=name, hint=HINT)
    if mean is None or std is None:
        sample = train[0][:5000].float().div(255)
        mean = tuple(round(v, 4) for v in sample.mean((0, 2, 3)).tolist())
        std = tuple(round(max(v, 1e-3), 4) for v in sample.std((0, 2, 3)).tolist())
    learn, holdout = split_holdout(ArraySplit(*train, mean, std, change))
    channels, height, width = train[0].shape[1:]
    return DataSource(
        name, classes, (channels, height, width), mean, std, learn, holdout, ArraySplit(*test, mean, std)
    )
