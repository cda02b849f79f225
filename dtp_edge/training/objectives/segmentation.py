"""Semantic segmentation: a class for every pixel, cross entropy, mean intersection over union."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dtp_edge.training.objectives.base import Headline, Objective, unfit
from dtp_edge.training.objectives.drawing import as_pictures, with_classes
from dtp_edge.training.objectives.interval import of_resampling
from dtp_edge.training.objectives.main_output import main_output, require_width, softened
from dtp_edge.training.objectives.torch_metric import torchmetrics

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["OBJECTIVE", "Segmentation"]

_AUXILIARY = 0.5  # weight of torchvision's second head, as its own training script has it


class Segmentation(Objective):
    """Batches are `(images, masks)`, the masks int64 `[B, H, W]`; pixels of `ignore_index` count nowhere.

    The output is `[B, classes, h, w]`, logits, brought to the mask's size where it is smaller; torchvision's
    dict (`out`, `aux`) and Hugging Face's `logits` are read too. One channel is the logit of class 1 of two.
    """

    name = "segmentation"
    headline = Headline("mean IoU")

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index

    @classmethod
    def of(cls, data: DataSource) -> Segmentation:
        if data.num_classes is None:
            raise unfit("segmentation needs the number of classes", "Give num_classes in the DataSource.")
        return cls(data.num_classes, int(data.facts.get("ignore_index", 255)))

    def settings(self) -> dict[str, Any]:
        return {"ignore_index": self.ignore_index}

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        mask = batch[1]
        loss = self._entropy(pixel_logits(outputs), mask)
        auxiliary = outputs.get("aux") if isinstance(outputs, Mapping) else None
        return loss if auxiliary is None else loss + _AUXILIARY * self._entropy(_two(auxiliary), mask)

    def _entropy(self, logits: Tensor, mask: Tensor) -> Tensor:
        logits = _sized(logits, mask)
        per_pixel = F.cross_entropy(logits, mask, ignore_index=self.ignore_index, reduction="sum")
        return per_pixel / (mask != self.ignore_index).sum().clamp_min(1)  # a batch may be ignored whole

    def distilled(self, outputs: Any) -> Tensor:
        return pixel_logits(outputs)

    def distance(self, ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        return softened(ours, theirs, temperature)

    def metric(self) -> MeanIoU:
        return MeanIoU(self.num_classes, self.ignore_index)

    def pictures(self, outputs: Any, batch: Any, data: DataSource) -> list[Any]:
        images, masks = batch
        found = masks if outputs is None else _sized(pixel_logits(outputs), masks).argmax(1)
        pictures = zip(as_pictures(images, data), found, strict=True)
        return [with_classes(picture, mask, self.ignore_index) for picture, mask in pictures]

    def refuse(self, data: DataSource, outputs: Any) -> None:
        require_width(pixel_logits(outputs).shape[1], self.num_classes, "classes")


class MeanIoU:
    """Intersection over union of each class over all pixels of the split, mean over the classes that occur.

    Counted by torchmetrics image by image, so that the interval can draw images anew.
    """

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        self._stats = torchmetrics().classification.MulticlassStatScores(
            num_classes, average=None, multidim_average="samplewise", ignore_index=ignore_index
        )
        self.rows: list[Tensor] = []

    def update(self, outputs: Any, batch: Any) -> None:
        found = _sized(pixel_logits(outputs), batch[1]).argmax(1)
        self.rows.append(self._stats(found, batch[1])[..., [0, 1, 3]].double())  # [B, classes, (tp, fp, fn)]
        self._stats.reset()

    def state(self) -> list[Tensor]:
        return self.rows

    def merge(self, states: Sequence[list[Tensor]]) -> None:
        for rows in states:
            self.rows += rows

    def compute(self) -> float:
        return float(_mean_iou(torch.cat(self.rows).sum(0)[None]))

    def interval(self) -> tuple[float, float] | None:
        return of_resampling(torch.cat(self.rows), _mean_iou)


def _mean_iou(counts: Tensor) -> Tensor:
    """Of `[N, classes, (tp, fp, fn)]`."""
    union = counts.sum(-1)
    return (counts[..., 0] / union.clamp_min(1)).sum(-1) / (union > 0).sum(-1).clamp_min(1)


def pixel_logits(outputs: Any) -> Tensor:
    """Return the `[B, classes, h, w]` tensor in what a segmentation network returns."""
    return _two(main_output(outputs, (4,), "[batch, classes, height, width]"))


def _two(logits: Tensor) -> Tensor:
    """One logit a pixel is that of class 1 against class 0."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def _sized(logits: Tensor, mask: Tensor) -> Tensor:
    if mask.dim() != 3:
        raise unfit(
            f"the masks are {list(mask.shape)}, not [batch, height, width]", "Give classes by number."
        )
    if logits.shape[2:] == mask.shape[1:]:
        return logits
    return F.interpolate(logits, size=mask.shape[1:], mode="bilinear", align_corners=False)


OBJECTIVE = Segmentation
