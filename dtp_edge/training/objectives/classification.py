"""Classification: one class a sample, cross entropy, softened logits (Hinton et al. 2015), top-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.metrics import TOP1
from dtp_edge.training.objectives.base import Headline, Objective
from dtp_edge.training.objectives.interval import wilson

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource
    from dtp_edge.training.recipe import Recipe

__all__ = ["OBJECTIVE", "Classification", "class_logits", "judged_by_top1"]


class Classification(Objective):
    """Batches are `(inputs, class)`, the class int64 `[B]`; the network's output is `[B, classes]`."""

    name = "classification"
    headline = Headline(TOP1)

    label_smoothing = 0.0

    score_batch = 500

    def begin(self, network: nn.Module | None, recipe: Recipe) -> None:
        self.label_smoothing = recipe.label_smoothing

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        return F.cross_entropy(class_logits(outputs), batch[1], label_smoothing=self.label_smoothing)

    def distilled(self, outputs: Any) -> Tensor:
        return class_logits(outputs)

    def distance(self, ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        """Return T² KL(teacher ‖ student), both softened by T.

        T² keeps its gradient at the size of the cross entropy's, whatever T.
        """
        soft = F.kl_div(
            F.log_softmax(ours / temperature, 1),
            F.log_softmax(theirs / temperature, 1),
            log_target=True,
            reduction="batchmean",
        )
        return temperature * temperature * soft

    def worth(self, outputs: Any, batch: Any) -> Tensor:
        return F.cross_entropy(class_logits(outputs), batch[1])

    def metric(self) -> Top1:
        return Top1()

    def quick(self, outputs: Any, batch: Any) -> float:
        return int((class_logits(outputs).argmax(1) == batch[1]).sum())

    def refuse(self, data: DataSource, outputs: Any) -> None:
        data.check_fits(class_logits(outputs).shape[1], data.input_shape)


class Top1:
    """The share of samples whose largest output is their class, with its Wilson interval."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, dtype=torch.float64)

    def update(self, outputs: Any, batch: Any) -> None:
        y = batch[1]
        right = (class_logits(outputs).argmax(1) == y).sum()
        self.counts += torch.tensor([float(right), float(len(y))])

    def state(self) -> Tensor:
        return self.counts

    def merge(self, states: Sequence[Tensor]) -> None:
        for counts in states:
            self.counts += counts

    def compute(self) -> float:
        return float(self.counts[0] / self.counts[1])

    def interval(self) -> tuple[float, float] | None:
        return wilson(self.compute(), int(self.counts[1]))


def judged_by_top1(objective: Objective) -> bool:
    """Return whether an objective is this one itself: a subclass may have another loss and headline."""
    return type(objective) is Classification


def class_logits(out: Any) -> Tensor:
    """The `[B, classes]` tensor in what a classifier returns."""
    if not isinstance(out, Tensor) and hasattr(out, "logits"):
        out = out.logits  # inception and googlenet in training, and language models
    if isinstance(out, (tuple, list)) and out:
        out = out[0]
    if not isinstance(out, Tensor) or out.ndim != 2:
        shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(
            f"classification needs a classifier, whose output is [batch, classes]; this network's is {shape}",
            hint="Name another --objective, your own too; use dtp_edge.TransportPruner in your own training "
            "loop, or prune without data.",
        )
    return out


OBJECTIVE = Classification
