"""No labels: the network learns to put out what the dense one does, and is judged by that too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dtp_edge.training.objectives.base import Headline, Objective, unfit

__all__ = ["OBJECTIVE", "NoLabels"]


class NoLabels(Objective):
    """Batches are the network's inputs alone, or begin with them; what stands behind is left away."""

    name = "no-labels"
    labelled = False
    headline = Headline("output error against the dense network", higher_is_better=False)

    def inputs(self, batch: Any) -> Any:
        return batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        found = self.distance(self.distilled(outputs), self.distilled(batch), 1.0)
        if found is None:
            raise unfit("no output can be compared with the dense network's", "Name another objective.")
        return found

    def metric(self) -> OutputError:
        return OutputError()


class OutputError:
    """The squared error of the outputs, relative to the dense network's own squares; all outputs together."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64)

    def update(self, outputs: Any, batch: Any) -> None:
        for ours, theirs in zip(tree_leaves(outputs), tree_leaves(batch), strict=True):
            if isinstance(ours, Tensor) and ours.is_floating_point():
                gap, size = (ours - theirs).double().square().sum(), theirs.double().square().sum()
                self.sums += torch.stack([gap, size])

    def state(self) -> Tensor:
        return self.sums

    def merge(self, states: list[Tensor]) -> None:
        for sums in states:
            self.sums += sums

    def compute(self) -> float:
        return float(self.sums[0] / self.sums[1].clamp_min(1e-300))


OBJECTIVE = NoLabels
