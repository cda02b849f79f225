"""Which cut of several leaves the least loss: each is made, fitted to the dense network, and measured.

The loss right behind a cut says little where much is cut: everything is then near guessing. After the least
squares of `surgery.refit`, which a run makes after its cut anyway, what training can still do shows: for a
network that became narrower. One that lost whole blocks has nothing to fit while each layer imitates its own
output. So cuts that look good are fitted once more, each layer to the sum that its output is added to, which
makes up for the block that went before it; the lower of both losses counts.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtp_edge.graph import PrunableNetwork, mode_of
from dtp_edge.surgery import compact, refit
from dtp_edge.training.objectives import nests
from dtp_edge.transport.batch_loss import LossFunction, batch_loss, on_device, split_batch

__all__ = ["FittedJudge"]

EFFORT = 1 / 3  # of a fit's rows: enough to tell cuts apart
SHARE = 3  # one cut in so many is fitted both ways: those of the lowest losses after the first
FEWEST = 4


class FittedJudge:
    """Called with masks `[k, n_atoms]` it returns the loss `[k]` of each cut of the network as it then is.

    Cuts are fitted on the first half of `batches`, and measured on the rest and on those `judged`. They
    imitate the network as it is now, which is kept. `seconds` is how long it took so far.
    """

    def __init__(
        self,
        network: PrunableNetwork,
        batches: Sequence[Any],
        loss: LossFunction | None = None,
        judged: Sequence[Any] = (),
    ) -> None:
        half = max(1, len(batches) // 2)
        self.network, self.loss, self.seconds = network, loss, 0.0
        self.fitted, self.judged = batches[:half], [*batches[half:], *judged] or batches
        self.dense = _copied(network.module)

    @torch.no_grad()
    def __call__(self, masks: np.ndarray) -> np.ndarray:
        began, keeps = time.monotonic(), [self.network.settled(mask > 0.5) for mask in masks]
        losses = np.array([self._loss(keep) for keep in keeps])
        for i in np.argsort(losses, kind="stable")[: max(FEWEST, len(keeps) // SHARE)]:
            losses[i] = min(losses[i], self._loss(keeps[i], streams=True))
        self.seconds += time.monotonic() - began
        return losses

    def _loss(self, keep: np.ndarray, *, streams: bool = False) -> float:
        device = next(iter(self.dense.values())).device
        cut = compact(self.network, keep, in_place=False)
        given = [on_device(split_batch(batch)[0], device) for batch in self.fitted]
        given = [nests.joined(given)] if self.network.dynamic_batch else given
        refit(self.network, cut, self.dense, given, streams=streams, effort=EFFORT)
        total, judged = 0.0, [split_batch(batch) for batch in self.judged]
        with mode_of(cut.graph_module, training=False):
            for inputs, targets in judged:
                inputs = on_device(inputs, device)
                wanted = None if targets is None else on_device((targets,), device)[0]
                before = None
                if wanted is None and self.loss is None:
                    before = self._dense_output(inputs)
                total += float(batch_loss(cut.graph_module(*inputs), wanted, self.loss, before))
        return total / len(judged) if np.isfinite(total) else np.inf

    def _dense_output(self, inputs: tuple[Any, ...]) -> Any:
        with mode_of(self.network.module, training=False):
            return torch.func.functional_call(self.network.module, copy.copy(self.dense), inputs)


def _copied(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
