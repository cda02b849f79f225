"""The optimiser of a phase: which parameters decay, and at which rate each group learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.training.recipe import Recipe


def make_optimizer(
    module: nn.Module,
    recipe: Recipe,
    rate: float,
    scores: Sequence[nn.Parameter] = (),
    score_rate: float = 0.0,
) -> torch.optim.Optimizer:
    """Weights decay; norms, biases and scores do not. A group has its `rate` and whether it is `scheduled`.

    Raises `InputError` where nothing can be trained.
    """
    apart = {id(p) for p in scores}
    weights = [p for p in module.parameters() if p.requires_grad and id(p) not in apart]
    groups: list[dict[str, Any]] = []
    for matrix, decay in ((True, recipe.weight_decay), (False, 0.0)):
        members = [p for p in weights if (p.ndim > 1) == matrix]
        if members:
            groups.append({"params": members, "weight_decay": decay, "rate": rate, "scheduled": True})
    if scores:
        groups.append({"params": list(scores), "weight_decay": 0.0, "rate": score_rate, "scheduled": False})
    if not groups:
        raise InputError("the network has no parameters to train", hint="Is requires_grad False everywhere?")
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(recipe.momentum, 0.999))
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=nesterov)
