"""What training leaves behind: networks, and how each of them does on hold-out and test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from dtp_edge.training.evaluate import evaluate, score
from dtp_edge.training.objectives.base import Objective
from dtp_edge.training.objectives.classification import Classification
from dtp_edge.training.phase import Row, Session
from dtp_edge.training.runtime import move

__all__ = ["TrainingOutcome", "score_all"]


@dataclass
class TrainingOutcome:
    """What training leaves behind.

    `accuracy` holds the objective's headline on the test set (shares, 0..1, of a classifier): of `base`,
    `at_cut` (compact, not yet fine-tuned), `pruned`, `control` (dense, trained as long; None if it was not
    asked for), and `n_test`. `holdout_accuracy` holds the same of the hold-out, which chose, `intervals` the
    95 % intervals on the test set, or why there are none. `curves` has a row a step, `seconds` the time of
    each phase, `warnings` a sentence for what a person should know. `whole` is the larger network around
    `module`, if there is one, `judge` the dense network where there are no labels and that is what scores
    compare with.
    """

    keep: np.ndarray
    module: nn.Module
    control: nn.Module | None
    accuracy: dict[str, float | int | None]
    holdout_accuracy: dict[str, float]
    curves: list[Row]
    seconds: dict[str, float]
    recipe: dict[str, Any]
    warnings: list[str]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    why_no_interval: str = ""
    whole: nn.Module | None = None
    objective: Objective = field(default_factory=Classification)
    judge: nn.Module | None = None


@dataclass
class Scores:
    """The headline of each network, by its name, and the 95 % intervals on the test set, or why none."""

    test: dict[str, float | int | None] = field(default_factory=dict)
    holdout: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    why_no_interval: str = ""


def score_all(networks: Mapping[str, nn.Module | None], session: Session) -> Scores:
    """Score each network on test set and hold-out; those of shared phases are as they were scored before."""
    found, data = Scores(), session.data
    for name, network in networks.items():
        if network is None:
            found.test[name] = None
            continue
        known = None if session.shared is None else session.shared.scores(name)
        if known is not None:
            found.test[name], found.holdout[name] = known
            if session.shared is not None and (ends := session.shared.interval(name)) is not None:
                found.intervals[name] = ends
            continue
        move(network, session.runtime.device)
        how = (session.score_batch, session.runtime, session.feed, session.judge)
        test = score(network, data.test, *how)
        found.test[name], found.holdout[name] = test.value, evaluate(network, data.holdout, *how)
        found.why_no_interval = test.why_none
        if test.interval is not None:
            found.intervals[name] = test.interval
    found.test["n_test"] = len(data.test)
    return found
