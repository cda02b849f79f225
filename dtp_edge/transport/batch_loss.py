"""The loss of a batch, as scores read it: the user's, cross entropy, or how far outputs have moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

__all__ = ["Given", "LossFunction", "batch_loss", "on_device", "split_batch"]

LossFunction = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Given:
    """A batch of any form: the network's arguments in their order, and what the loss compares them with."""

    inputs: tuple[Any, ...]
    targets: Any = None


def split_batch(batch: Any) -> tuple[tuple[Any, ...], Any]:
    """Return the inputs of a batch, and its targets or None."""
    if isinstance(batch, Given):
        return batch.inputs, batch.targets
    if isinstance(batch, (tuple, list)):
        return (batch[0],), batch[1] if len(batch) > 1 else None
    return (batch,), None


def on_device(values: tuple[Any, ...], device: torch.device) -> tuple[Any, ...]:
    return tree_map(lambda v: v.to(device) if hasattr(v, "to") else v, values)


def batch_loss(output: Any, targets: Any, loss: LossFunction | None, before: Any = None) -> Tensor:
    """Return the loss of a batch; without labels the mean square of the (first) output.

    With the output `before` a change, and without labels, it is how far the squares have moved from there.
    """
    if loss is not None:
        return loss(output, targets)
    first = _first(output)
    if targets is not None and first.dim() == 2 and not targets.is_floating_point():
        return nn.functional.cross_entropy(first, targets)
    square = first.float().square()
    return square.mean() if before is None else (square - _first(before).float().square()).abs().mean()


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (tuple, list)) else output
