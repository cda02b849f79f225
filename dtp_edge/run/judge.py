"""Which cut of several leaves the least loss: each is made, fitted to the dense network, and measured.

The loss right behind a cut says little where much is cut: everything is then near guessing. After the least
squares of `surgery.refit`, which a run makes after its cut anyway, what training can still do shows.

Learning masks trains weights too, for a network that loses a little everywhere. Where whole blocks go
instead, a cut of the weights that the masks began with can be far better; so each cut is judged with both.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtp_edge.graph import PrunableNetwork, mode_of
from dtp_edge.surgery import compact, refit
from dtp_edge.transport.batch_loss import LossFunction, batch_loss, on_device, split_batch

__all__ = ["FittedJudge", "rewind"]


class FittedJudge:
    """Called with masks `[k, n_atoms]` it returns the loss `[k]` of each cut of the network as it then is.

    The first half of `batches` is what cuts are fitted on, the rest what they are measured on. They imitate
    the network as it is now, which is kept. With `rewinds` a cut may also be made of these weights, and
    `rewind` is to be called before it is.
    """

    rewinds = False

    def __init__(
        self, network: PrunableNetwork, batches: Sequence[Any], loss: LossFunction | None = None
    ) -> None:
        self.network, self.batches, self.loss = network, batches, loss
        self.dense = _copied(network.module)

    @torch.no_grad()
    def __call__(self, masks: np.ndarray) -> np.ndarray:
        keeps = [self.network.settled(mask > 0.5) for mask in masks]
        losses = np.array([self._loss(keep) for keep in keeps])
        if not self.rewinds:
            return losses
        now = _copied(self.network.module)
        self.network.module.load_state_dict(self.dense)
        before = np.array([self._loss(keep) for keep in keeps])
        self.network.module.load_state_dict(now)
        return np.minimum(losses, before)

    @torch.no_grad()
    def rewind(self, keep: np.ndarray) -> bool:
        """Put back the weights that the masks began with, if this cut loses less with them."""
        keep, now, with_now = self.network.settled(keep), _copied(self.network.module), self._loss(keep)
        self.network.module.load_state_dict(self.dense)
        if self._loss(keep) < with_now:
            return True
        self.network.module.load_state_dict(now)
        return False

    def _loss(self, keep: np.ndarray) -> float:
        device = next(iter(self.dense.values())).device
        cut = compact(self.network, keep, in_place=False)
        split = [split_batch(batch) for batch in self.batches]
        half = max(1, len(split) // 2)
        given = [on_device(inputs, device) for inputs, _ in split[:half]]
        refit(self.network, cut, self.dense, [_joined(given)] if self.network.dynamic_batch else given)
        total, judged = 0.0, split[half:] or split
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


def rewind(judge: object, keep: np.ndarray) -> bool:
    """Call before a cut: see `FittedJudge.rewind`. Judged anew, for a resumed run has the masks alone."""
    return isinstance(judge, FittedJudge) and judge.rewinds and judge.rewind(keep)


def _copied(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _joined(inputs: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """One batch of several: tensors end to end, what else there is from the first."""
    return tuple(
        torch.cat(column) if all(isinstance(x, Tensor) for x in column) else column[0]
        for column in zip(*inputs, strict=True)
    )
