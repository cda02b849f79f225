"""Multi-label classification: any number of classes a sample, each a yes or no of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from dtp_edge.training.objectives.base import Headline, Metric, Objective, unfit
from dtp_edge.training.objectives.classification import class_logits
from dtp_edge.training.objectives.torch_metric import TorchMetric, torchmetrics

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["OBJECTIVE", "MultiLabel"]


class MultiLabel(Objective):
    """Batches are `(inputs, labels)`, the labels 0 or 1, `[B, classes]` as the output, which is logits."""

    name = "multi-label"
    headline = Headline("mean average precision")

    def __init__(self, num_classes: int | None = None) -> None:
        self.num_classes = num_classes

    @classmethod
    def of(cls, data: DataSource) -> MultiLabel:
        return cls(data.num_classes)

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(class_logits(outputs), batch[1].float())

    def distilled(self, outputs: Any) -> Tensor:
        return class_logits(outputs)

    def distance(self, ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        """Return T² KL of every yes or no, both softened by T, mean over classes."""
        soft, target = ours / temperature, (theirs / temperature).sigmoid()
        cross = F.binary_cross_entropy_with_logits(soft, target)
        entropy = F.binary_cross_entropy_with_logits(theirs / temperature, target)
        return temperature * temperature * (cross - entropy)

    def metric(self) -> Metric:
        found = torchmetrics().classification.MultilabelAveragePrecision(self.num_classes or 1)
        return TorchMetric(found, lambda outputs, batch: (class_logits(outputs), batch[1].long()))

    def refuse(self, data: DataSource, outputs: Any) -> None:
        width = class_logits(outputs).shape[1]
        if self.num_classes is None:
            self.num_classes = width
        if width != self.num_classes:
            raise unfit(
                f"the data has {self.num_classes} classes, the network's output has {width}",
                "Build the network with the data's number of classes.",
            )


OBJECTIVE = MultiLabel
