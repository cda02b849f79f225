"""Sequence classification: one class a text or signal, macro F1 (by accuracy it is `classification`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge.training.objectives.base import Headline, Metric, unfit
from dtp_edge.training.objectives.classification import Classification, class_logits
from dtp_edge.training.objectives.token_classification import class_metric
from dtp_edge.training.objectives.torch_metric import TorchMetric

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["OBJECTIVE", "SequenceClassification"]


class SequenceClassification(Classification):
    """As `Classification`, with the F1 of all classes alike as the headline."""

    name = "sequence-classification"
    headline = Headline("macro F1")

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    @classmethod
    def of(cls, data: DataSource) -> SequenceClassification:
        if data.num_classes is None:
            raise unfit(
                "sequence classification needs the number of classes", "Give num_classes in the DataSource."
            )
        return cls(data.num_classes)

    def metric(self) -> Metric:
        return TorchMetric(
            class_metric("f1", self.num_classes), lambda o, b: (class_logits(o).argmax(1), b[1])
        )

    def quick(self, outputs: object, batch: object) -> None:
        return None


OBJECTIVE = SequenceClassification
