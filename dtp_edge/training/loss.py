"""The loss: labels, and the dense network's logits (Hinton et al. 2015)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dtp_edge.training.recipe import Recipe


def training_loss(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, recipe: Recipe) -> Tensor:
    """(1 - a) cross entropy + a T² KL(teacher ‖ student), both softened by T; `[B, classes]` -> scalar.

    T² keeps the second term's gradient at the size of the first's, whatever T. Computed in float32, also
    from logits of lower precision.
    """
    logits = logits.float()
    hard = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if teacher_logits is None or recipe.distill == 0:
        return hard
    t = recipe.temperature
    soft = F.kl_div(
        F.log_softmax(logits / t, 1),
        F.log_softmax(teacher_logits.float() / t, 1),
        log_target=True,
        reduction="batchmean",
    )
    return (1 - recipe.distill) * hard + recipe.distill * t * t * soft
