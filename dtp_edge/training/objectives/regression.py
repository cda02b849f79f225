"""Regression: numbers a sample, mean squared error."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dtp_edge.training.objectives.base import Headline, Metric, Objective, unfit
from dtp_edge.training.objectives.torch_metric import TorchMetric, torchmetrics

__all__ = ["OBJECTIVE", "Regression"]


class Regression(Objective):
    """Batches are `(inputs, targets)`, the targets floats of the shape of the network's output."""

    name = "regression"
    headline = Headline("R²", unit="", decimals=4)

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        return F.mse_loss(*_pair(outputs, batch))

    def distilled(self, outputs: Any) -> Tensor:
        return _first(outputs)

    def distance(self, ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
        """Return the mean squared difference: what the loss has for the targets."""
        return F.mse_loss(ours, theirs)

    def metric(self) -> Metric:
        found = torchmetrics().R2Score(multioutput="variance_weighted")
        return TorchMetric(found, lambda outputs, batch: tuple(t.flatten(1) for t in _pair(outputs, batch)))


def _first(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, (tuple, list)) else outputs


def _pair(outputs: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Outputs and targets, `[B, ...]` each; one number a sample may come as `[B]`."""
    made, wanted = _first(outputs), batch[1].float()
    if made.dim() == wanted.dim() + 1 and made.shape[-1] == 1:
        wanted = wanted[..., None]
    if made.shape != wanted.shape:
        raise unfit(
            f"the targets are {list(wanted.shape)}, the network's output is {list(made.shape)}",
            "Give targets of the output's shape, the batch first.",
        )
    return made, wanted


OBJECTIVE = Regression
