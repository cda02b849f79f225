"""Detection as torchvision's detectors have it: called with images and targets they return losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.training.objectives.base import Headline, Inputs, Metric, Objective, unfit
from dtp_edge.training.objectives.box_metric import BoxMetric
from dtp_edge.training.objectives.drawing import as_pictures, with_frames
from dtp_edge.training.objectives.torch_metric import torchmetrics

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["OBJECTIVE", "Detection", "framed", "mean_average_precision"]

_BACK_ENDS = ("pycocotools", "faster_coco_eval")


class Detection(Objective):
    """Batches are `(images [B, 3, H, W], targets)`, a target a dict of `boxes` (x1 y1 x2 y2, in pixels) and
    `labels`.

    In training the network returns a dict of losses, which are added; else a list of dicts with `boxes`,
    `scores`, `labels`. Labels of the data count from 0; with `background` the network's count from 1.
    Nothing is distilled: in training such a network shows its losses only.
    """

    name = "detection"
    headline = Headline("mAP 50-95")

    def __init__(self, background: bool = True) -> None:
        self.background = background

    def settings(self) -> dict[str, Any]:
        return {"background": self.background}

    def inputs(self, batch: Any) -> Inputs:
        images, targets = batch
        return Inputs((list(images), self._numbered(targets)))

    def _numbered(self, targets: Any) -> list[dict[str, Tensor]]:
        return [{"boxes": t["boxes"], "labels": t["labels"] + int(self.background)} for t in targets]

    def size(self, batch: Any) -> int:
        return len(batch[0])

    def parts(self, batch: Any, count: int) -> list[Any]:
        images, targets = batch
        step = -(-len(images) // count)
        return [(images[i : i + step], targets[i : i + step]) for i in range(0, len(images), step)]

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        if not isinstance(outputs, Mapping) or not outputs:
            raise unfit(
                f"in training the detector returned {type(outputs).__name__}, not a dict of its losses",
                "Give an objective of your own, whose `loss` knows this detector's outputs.",
            )
        return torch.stack([loss.sum() for loss in outputs.values()]).sum()

    def distilled(self, outputs: Any) -> None:
        return None

    def metric(self) -> Metric:
        return BoxMetric(mean_average_precision(), self._pairs)

    def _pairs(self, outputs: Any, batch: Any) -> tuple[Any, Any]:
        return list(outputs), self._numbered(batch[1])

    def pictures(self, outputs: Any, batch: Any, data: DataSource) -> list[Any]:
        images, targets = batch
        if outputs is not None:
            targets = [o | {"labels": o["labels"] - int(self.background)} for o in outputs]
        return framed(images, targets, data)

    def refuse(self, data: DataSource, outputs: Any) -> None:
        fits = isinstance(outputs, (list, tuple)) and all(
            isinstance(one, Mapping) and {"boxes", "scores", "labels"} <= set(one) for one in outputs
        )
        if not fits:
            raise unfit(
                f"the network returns {type(outputs).__name__}, not a list of boxes, scores and labels",
                "The objective `detection` is for torchvision's detectors; give one of your own for others.",
            )


def framed(images: Tensor, found: Sequence[Mapping[str, Tensor]], data: DataSource) -> list[Any]:
    """Return pictures with the boxes of each drawn in, and where they have `scores` those that are sure."""
    size, names = (images.shape[3], images.shape[2]), data.facts.get("classes") or ()
    return [
        with_frames(picture, size, one["boxes"], one["labels"], names, one.get("scores"))
        for picture, one in zip(as_pictures(images, data), found, strict=True)
    ]


def mean_average_precision() -> Any:
    """Return torchmetrics' mAP of boxes x1 y1 x2 y2, with the back end that is installed."""
    package = torchmetrics().detection
    for back_end in _BACK_ENDS if hasattr(package, "MeanAveragePrecision") else ():  # it needs torchvision
        try:
            found = package.MeanAveragePrecision(box_format="xyxy", iou_type="bbox", backend=back_end)
        except ImportError:
            continue
        found.warn_on_many_detections = False
        return found
    raise InputError(
        "mAP is counted by torchvision with pycocotools or faster-coco-eval, and they are not installed",
        hint='pip install "dtp-edge[vision,tasks]"',
    )


OBJECTIVE = Detection
