"""The loss: the objective's own, and how far the outputs are from the dense network's."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dtp_edge.training.feed import Feed
from dtp_edge.training.objectives import nests
from dtp_edge.training.objectives.classification import Classification
from dtp_edge.training.recipe import Recipe


def training_loss(outputs: Any, batch: Any, teacher: Any, recipe: Recipe, feed: Feed | None = None) -> Tensor:
    """Return (1 - a) loss + a distance from the dense network's outputs `teacher`, a scalar in float32.

    Computed in float32, also from outputs of lower precision. Without labels it is what the objective makes
    of both outputs. Without a `feed`, `batch` holds the labels of a classifier.
    """
    if feed is None:
        objective = Classification()
        objective.label_smoothing = recipe.label_smoothing
        feed, batch = Feed(objective), (None, batch)
    objective = feed.objective
    outputs, teacher = nests.in_float32(outputs), nests.in_float32(teacher)
    if not objective.labelled:
        return feed.loss(outputs, teacher)
    hard = feed.loss(outputs, batch)
    if teacher is None or recipe.distill == 0:
        return hard
    soft = distance(objective, outputs, teacher, recipe.temperature)
    return hard if soft is None else (1 - recipe.distill) * hard + recipe.distill * soft


def distance(objective: Any, outputs: Any, teacher: Any, temperature: float) -> Tensor | None:
    """Return how far outputs are from the dense network's, as the objective says; None: nothing compares."""
    ours, theirs = objective.distilled(outputs), objective.distilled(teacher)
    return None if ours is None or theirs is None else objective.distance(ours, theirs, temperature)
