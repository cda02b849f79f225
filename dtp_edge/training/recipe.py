"""Every number that training depends on, in one frozen record with the defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from dtp_edge.errors import InputError, nearest


def _cosine(t: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * t))


_RATES = ("base_learning_rate", "mask_learning_rate", "tune_learning_rate")
_OPTIONAL = ("score_learning_rate", "gradient_clip")
BLOCK_DISTILL = 2.0  # where branches may go
MASK_SHARE = 0.4  # of the epochs after the base, where masks are learned
_LENGTHS = ("base_epochs", "mask_epochs", "tune_epochs")
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1.0 - t,
    "cosine": _cosine,
    "step": lambda t: 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01,
    "onecycle": lambda t: 0.04 + 0.96 * t / 0.3 if t < 0.3 else _cosine((t - 0.3) / 0.7),
}


@dataclass(frozen=True)
class Recipe:
    """How a run trains. Lengths are in epochs (fractions allowed).

    - `base_epochs`, `mask_epochs`, `tune_epochs`: training of the dense network, of weights and scores
      under the falling budget, and of the compact network. Without `mask_epochs` no masks are learned: a
      calibration decides what stays, and fits it, before the tuning (`docs/accuracy.md`).
    - `schedule`, `warmup`: shape of the learning rate over a phase, restarted in each, after a linear rise
      over the fraction `warmup`.
    - `distill`, `temperature`: weight of the dense network's softened logits in the loss (0: labels only).
    - `block_distill`: weight of the distance between the outputs of the pruned network's blocks and the same
      channels of the dense one (0: off; None: 2 where branches may go, else off; see `training.distil`).
    - `accumulate`: a batch is computed in so many parts. `mixed_precision`: "no", "bf16" or "fp16".
    - `channels_last`: images are laid out so, which convolutions in reduced precision run faster on.
    - `refit_images`: training images on which the compact network's weights are fitted to the dense
      network's outputs at the cut (0: off; see `export.refit`).
    - `ema`: decay of a running average of the weights that is scored and kept instead of them (0: off).
    """

    seed: int = 0
    batch_size: int = 128
    base_epochs: float = 0.0
    mask_epochs: float = 0.0
    tune_epochs: float = 3.0
    optimizer: str = "sgd"
    base_learning_rate: float = 0.05
    mask_learning_rate: float = 0.05
    tune_learning_rate: float = 0.05
    score_learning_rate: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: float = 0.05
    distill: float = 0.5
    temperature: float = 4.0
    block_distill: float | None = None
    label_smoothing: float = 0.0
    gradient_clip: float | None = None
    accumulate: int = 1
    mixed_precision: str = "no"
    channels_last: bool = False
    ema: float = 0.0
    recalibrate_batches: int = 20
    refit_images: int = 512

    def __post_init__(self) -> None:
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("optimizer", self.optimizer, ("sgd", "adamw"))
        _one_of("mixed precision", self.mixed_precision, ("no", "bf16", "fp16"))
        positive = {
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "temperature": self.temperature,
            **{name: getattr(self, name) for name in _RATES},
            **{name: v for name in _OPTIONAL if (v := getattr(self, name)) is not None},
        }
        for name, value in positive.items():
            if not value > 0 or not math.isfinite(value):
                raise InputError(f"must be above 0, not {value}", where=name, hint=_default(name))
        for name in (*_LENGTHS, "weight_decay", "block_distill", "recalibrate_batches", "refit_images"):
            if not (value := getattr(self, name) or 0) >= 0 or not math.isfinite(value):
                raise InputError(f"must be 0 or more, not {value}", where=name, hint=_default(name))
        for name in ("distill", "ema", "warmup", "label_smoothing", "momentum"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise InputError(f"must lie in 0..1, not {value}", where=name, hint=_default(name))

    @classmethod
    def for_epochs(cls, epochs: float = 3.0, *, masks: bool = False, **changes: Any) -> Recipe:
        """Tune for `epochs` after the base and the cut; or two fifths of them learn `masks` before it."""
        if not epochs > 0 or not math.isfinite(epochs):
            raise InputError(
                f"must be above 0, not {epochs}",
                where="epochs",
                hint="Leave the data out for a one-shot run, which trains nothing.",
            )
        share = MASK_SHARE if masks else 0.0
        return replace(cls(mask_epochs=share * epochs, tune_epochs=(1 - share) * epochs), **changes)

    @classmethod
    def demo(cls, **changes: Any) -> Recipe:
        """A minute or so for the digits on two cores."""
        small = cls(batch_size=32, base_epochs=4, mask_epochs=2, tune_epochs=3, weight_decay=1e-4)
        return replace(small, **{"mask_learning_rate": 0.02, "tune_learning_rate": 0.02, **changes})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def steps(self, epochs: float, batches: int) -> int:
        """Optimiser steps in `epochs` of `batches` each: at least one unless `epochs` is 0."""
        return max(1, round(epochs * batches)) if epochs > 0 else 0

    def rate(self, step: int, total: int) -> float:
        """The schedule's factor at a step, in 0..1."""
        rise = round(self.warmup * total)
        if step < rise:
            return (step + 1) / (rise + 1)
        return SCHEDULES[self.schedule]((step - rise) / max(1, total - rise))


def _default(name: str) -> str:
    default = Recipe.__dataclass_fields__[name].default
    return f"Its default is {'none' if default is None else default}."


def _one_of(what: str, value: str, known: Any) -> None:
    if value not in known:
        near = nearest(value, known) or list(known)
        raise InputError(f"there is no {what} '{value}'", hint=f"Did you mean {', '.join(near)}?")


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another seed; fixes torch's global generator too, so that fresh weights follow it."""
    torch.manual_seed(seed)
    return replace(recipe, seed=seed)
