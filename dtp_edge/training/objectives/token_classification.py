"""Token classification: a class for every token, cross entropy, macro F1 or accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.training.objectives.base import Headline, Metric, Objective, unfit
from dtp_edge.training.objectives.main_output import main_output, require_width, softened
from dtp_edge.training.objectives.torch_metric import TorchMetric, torchmetrics

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource

__all__ = ["HEADLINES", "IGNORED", "OBJECTIVE", "TokenClassification"]

IGNORED = -100  # Hugging Face's and torch's own
HEADLINES = {"f1": Headline("macro F1"), "accuracy": Headline("accuracy")}


class TokenClassification(Objective):
    """Batches are `(inputs, labels)`, the labels int64 `[B, L]`, -100 where a token counts nowhere (padding).

    The inputs are usually a dict (`input_ids`, `attention_mask`); the output is `[B, L, classes]`, or has it
    as `logits`. `judged_by` is "f1", of all classes alike, or "accuracy".
    """

    name = "token-classification"

    def __init__(self, num_classes: int, judged_by: str = "f1") -> None:
        if judged_by not in HEADLINES:
            raise InputError(f"judged_by is {judged_by!r}", hint=f"Give one of {', '.join(HEADLINES)}.")
        self.num_classes, self.judged_by, self.headline = num_classes, judged_by, HEADLINES[judged_by]

    @classmethod
    def of(cls, data: DataSource) -> TokenClassification:
        if data.num_classes is None:
            raise unfit(
                "token classification needs the number of classes", "Give num_classes in the DataSource."
            )
        return cls(data.num_classes)

    def settings(self) -> dict[str, Any]:
        return {"judged_by": self.judged_by}

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        labels = batch[1]
        total = F.cross_entropy(_logits(outputs), labels, ignore_index=IGNORED, reduction="sum")
        return total / (labels != IGNORED).sum().clamp_min(1)

    def distilled(self, outputs: Any) -> Tensor:
        return _logits(outputs)

    def distance(self, ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        return softened(ours, theirs, temperature)

    def metric(self) -> Metric:
        return TorchMetric(
            class_metric(self.judged_by, self.num_classes), lambda o, b: (_logits(o).argmax(1), b[1])
        )

    def refuse(self, data: DataSource, outputs: Any) -> None:
        require_width(_logits(outputs).shape[1], self.num_classes, "classes")


def class_metric(judged_by: str, num_classes: int) -> Any:
    """Return torchmetrics' macro F1 or accuracy."""
    found = torchmetrics().classification
    if judged_by == "f1":
        return found.MulticlassF1Score(num_classes, average="macro", ignore_index=IGNORED)
    return found.MulticlassAccuracy(num_classes, average="micro", ignore_index=IGNORED)


def _logits(outputs: Any) -> Tensor:
    """Return logits as `[B, classes, L]`."""
    return main_output(outputs, (3,), "[batch, tokens, classes]").transpose(1, 2)


OBJECTIVE = TokenClassification
