"""What an objective reads of a network's outputs, and how softened classes are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dtp_edge.training.objectives.base import unfit

__all__ = ["main_output", "require_width", "softened"]


def main_output(outputs: Any, dims: tuple[int, ...], form: str) -> Tensor:
    """Return the one tensor that the task is about, of so many dimensions. `form` says in words what it is.

    It is read out of Hugging Face's outputs (`logits`), torchvision's dict (`out`), and of tuples the first.
    """
    found = outputs
    if isinstance(found, Mapping):
        found = next((found[key] for key in ("logits", "out") if key in found), found)
    elif not isinstance(found, Tensor) and getattr(found, "logits", None) is not None:
        found = found.logits
    if isinstance(found, (tuple, list)) and found:
        found = found[0]
    if isinstance(found, Tensor) and found.dim() in dims:
        return found
    shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise unfit(
        f"the output must be {form}; this network returns {shape}", "Name another --objective, your own too."
    )


def require_width(width: int, wanted: int | None, what: str) -> None:
    """Raise `InputError` unless the output has as many classes as the data."""
    if wanted is not None and width != wanted:
        raise unfit(
            f"the data has {wanted} {what}, the network's output has {width}",
            f"Build the network with the data's number of {what}.",
        )


def softened(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Return T² KL(theirs ‖ ours) of `[B, classes, ...]`, softened by T, mean over samples and places."""
    soft = F.kl_div(
        F.log_softmax(ours / temperature, 1),
        F.log_softmax(theirs / temperature, 1),
        log_target=True,
        reduction="sum",
    )
    return temperature * temperature * soft * ours.shape[1] / ours.numel()
