"""Rates under several priors, averaged: nothing is chosen, so the held-out error flatters nobody.

How tight a prior should be, and how noisy a measurement is, cannot be known from a dozen networks: chosen by
cross-validation, the choice changes with every network that is left out, and the error of the best of ten is
too good to be true (Varma and Simon, "Bias in error estimation when using cross-validation for model
selection", 2006). So all of them are fitted, and a rate is the geometric mean of what they give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dtp_edge.fitting.losses import Loss
from dtp_edge.fitting.rates import LOSS, Board, HeldOut, Population, RateSpec, design, fit_population

_ROUNDS = 8


@dataclass(frozen=True)
class Form:
    """A prior, a noise and a loss, with all boards' samples; forms that are averaged have the same rates and
    boards.
    """

    spec: RateSpec
    boards: tuple[Board, ...]
    noise: float
    loss: Loss = LOSS

    @cached_property
    def designs(self) -> list[np.ndarray]:
        return [design(self.spec, board.samples) for board in self.boards]

    def fit(self, without: frozenset[str] = frozenset()) -> Population:
        """Fit all boards, families `without` left out, from nothing: a start at the fit to all would know
        them.
        """
        return fit_population(
            self.spec,
            self.boards,
            rounds=_ROUNDS,
            noise=self.noise,
            without=without,
            loss=self.loss,
            designs=self.designs,
        )


@dataclass(frozen=True)
class Averaged:
    """theta of every board (see `RateSpec`), and the predictions of families held out on all boards at
    once.
    """

    spec: RateSpec
    boards: tuple[Board, ...]
    theta: tuple[np.ndarray, ...]
    held: tuple[HeldOut, ...]


def fit_averaged(forms: Sequence[Form]) -> Averaged:
    """Fit every form, average theta, and do the same without each family to predict it."""
    boards, designs = forms[0].boards, forms[0].designs
    predicted = [np.zeros(len(board.samples)) for board in boards]
    for family in sorted({s.family for board in boards for s in board.samples}):
        fits = [form.fit(frozenset([family])) for form in forms]
        for board, matrix, theta, values in zip(boards, designs, _mean(fits), predicted, strict=True):
            index = [i for i, s in enumerate(board.samples) if s.family == family]
            values[index] = matrix[index] @ np.exp(theta)
    held = tuple(
        HeldOut(tuple(s.name for s in b.samples), p, np.array([s.latency_ms for s in b.samples]))
        for b, p in zip(boards, predicted, strict=True)
    )
    return Averaged(forms[0].spec, boards, _mean([form.fit() for form in forms]), held)


def _mean(fits: Sequence[Population]) -> tuple[np.ndarray, ...]:
    return tuple(np.mean(thetas, axis=0) for thetas in zip(*(fit.theta for fit in fits), strict=True))
