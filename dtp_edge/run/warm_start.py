"""A run that begins with masks and weights of one for a looser budget, and learns masks in fewer steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dtp_edge.errors import InputError
from dtp_edge.run.task import Task
from dtp_edge.training import Recipe
from dtp_edge.training.checkpoint import read_phase
from dtp_edge.transport.warm import Warm

__all__ = ["LOG_ODDS_SHARE", "MASK_SHARE", "WarmStart", "require_masks"]

MASK_SHARE = 0.5  # of the mask phase's steps that a warm start takes
LOG_ODDS_SHARE = 0.5  # of the looser masks' log-odds that are taken over: all would leave nothing to learn


def require_masks(recipe: Recipe, where: str = "mask_epochs") -> None:
    """Raise `InputError` where a recipe learns no masks, which a warm start begins with."""
    if not recipe.mask_epochs:
        raise InputError(
            "a warm start begins with masks, and this recipe learns none",
            where=where,
            hint="Give it mask_epochs above 0: Recipe.for_epochs(N, masks=True).",
        )


@dataclass(frozen=True)
class WarmStart:
    """`checkpoint` is the other run's folder of phases, `limits` its limits `{metric: limit}`."""

    checkpoint: Path
    limits: Mapping[str, float]
    mask_share: float = MASK_SHARE
    log_odds_share: float = LOG_ODDS_SHARE

    def begin(self, task: Task) -> dict[str, Any]:
        """Put the other run's weights into the network; return `scores` and `warm` for its learner.

        **Raises:** `InputError` where the checkpoint is not one of this network.
        """
        path = self.checkpoint / "masks.safetensors"
        state = {k.removeprefix("module."): v for k, v in read_phase(path).tensors.items()}
        around, rest = {}, {}
        if task.whole is not None:  # the learner stood in the part's place
            here, places = f"{task.whole.path}.run.", tuple(f"{name}." for name in task.whole.places)
            around = {n: t for n, t in task.whole.module.state_dict().items() if not n.startswith(places)}
            rest = {name: state[name] for name in around if name in state}
            state = {k.removeprefix(here): v for k, v in state.items() if k.startswith(here)}
        log_odds, scores = state.get("log_odds"), state.get("scores")
        weights = {k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")}
        own = task.network.module.state_dict()
        fits = scores is not None and len(scores) == task.network.n_atoms and weights.keys() == own.keys()
        if log_odds is None or not fits or rest.keys() != around.keys():
            hint = "Remove the sweep's folder and start anew."
            raise InputError("is not a run of this network", where=str(path), hint=hint)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(weights[name])
            for name, tensor in around.items():
                tensor.copy_(rest[name])
        odds = log_odds.double().cpu().numpy()
        warm = Warm(self.log_odds_share * odds, dict(self.limits))
        return {"scores": odds, "warm": warm}
