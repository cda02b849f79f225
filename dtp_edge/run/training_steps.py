"""What a training asks of its run on the way: a learner, a cut, a fit, or a calibration."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import batch_of
from dtp_edge.run.calibrated_start import calibrated_start
from dtp_edge.run.fixed_sizes import as_traced, fits
from dtp_edge.run.judge import FittedJudge
from dtp_edge.run.known_scores import KnownScores
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.proved import cut_and_prove
from dtp_edge.run.task import Task
from dtp_edge.surgery import Compact, refit_to_train
from dtp_edge.training import DataSource, Recipe, TrainingOutcome
from dtp_edge.training.distil import BlockDistillation
from dtp_edge.training.feed import Feed
from dtp_edge.transport import MaskLearner
from dtp_edge.transport.batch_loss import Given

SCORE_SAMPLES, SCORE_BATCH_SIZE = 256, 64  # training samples that Taylor scores start from
JUDGE_SAMPLES = 512  # others, which cuts with and without branches are compared on
LEAST_SAMPLES = 64  # fewer say little of a loss
SCORE_SHARE = 0.6  # of the training's own work (three forwards a sample) that scoring and judging may take
CUTS = 28  # that are judged in the end, or so: fitted on the scored samples, measured on the others


@dataclass
class TrainingSteps:
    """The callbacks of `run_training`, and what they found: `compacted`, `rises` by branch, notes, times.

    A recipe with mask epochs calls `make_learner`, `cut` and `refit`; one without calls `calibrated`.
    """

    task: Task
    data: DataSource
    options: Options
    listener: Listener
    recipe: Recipe
    feed: Feed
    keep: np.ndarray = field(init=False)
    compacted: Compact = field(init=False)
    rises: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    learner: MaskLearner | None = None
    fitted: bool = True

    def make_learner(self, steps: int) -> MaskLearner:
        """Score the network's channels and branches; return what learns from there."""
        network, options, feed, began = self.task.network, self.options, self.feed, time.monotonic()
        scored, judged = scoring_batches(network, self.data, feed, self.recipe)
        given: dict[str, Any] = {"batches": scored or None, "judged": judged}
        if network.branches:
            self.listener.begin(f"measuring what {len(network.groups)} groups and branches are worth")
        if feed.objective.labelled:
            given["loss"] = feed.worth
        given |= {} if options.warm is None else options.warm.begin(self.task)
        known = KnownScores.of(options.shared, network, self.data, feed, scored)
        self.learner = self.task.learner(steps, **given, known=known.losses)
        known.keep()
        self.seconds["scores"] = time.monotonic() - began
        return self.learner

    def cut(self, keep: np.ndarray) -> nn.Module:
        self.keep, self.compacted = keep, cut_and_prove(self.task.network, keep)[0]
        return self.compacted.module

    def refit(self, dense: nn.Module, batches: list[tuple[Any, ...]]) -> None:
        """Fit what was cut to the dense network's outputs, on those batches that have the traced sizes."""
        network = self.task.network
        if found := as_traced(network, batches):
            refit_to_train(network, self.compacted, dense.state_dict(), found, seed=self.options.seed)
        else:
            self.fitted = False

    def calibrated(self) -> tuple[np.ndarray, nn.Module]:
        """What a calibration on training inputs keeps, cut and fitted."""
        began = time.monotonic()
        chosen, self.compacted = calibrated_start(self.task, self.data, self.options, self.listener)
        self.keep = chosen.keep
        self.rises.update(chosen.rises)
        self.notes.extend(chosen.notes)
        self.seconds["calibration"] = time.monotonic() - began
        return chosen.keep, self.compacted.module

    def compare(self, teacher: nn.Module) -> BlockDistillation | None:
        """Which outputs of blocks the compact network is compared with those of the `teacher` at."""
        cut = self.compacted
        in_graph = cut.kind == "graph"
        return BlockDistillation.of_compact(
            self.task.network, self.keep, cut.module, teacher, in_graph=in_graph
        )

    def tell(self, outcome: TrainingOutcome) -> None:
        """Write what was found into what the training left."""
        outcome.warnings.extend(self.notes)
        if not self.fitted:
            outcome.warnings.append(
                "No training batch has the sizes of the example input: nothing was fitted to the dense "
                "network at the cut."
            )
        if self.learner is not None:
            self.rises = self.learner.branch_rises()
            if isinstance(judge := self.learner.judge, FittedJudge) and judge.seconds:
                self.seconds["choice of the cut"] = judge.seconds
                outcome.seconds["masks"] -= judge.seconds  # it is their last step
        outcome.seconds |= self.seconds


def scoring_batches(
    network: PrunableNetwork, data: DataSource, feed: Feed, recipe: Recipe
) -> tuple[list[Given], list[Given]]:
    """Return the training samples that channels and branches are scored on, and those that cuts are judged
    on, of the sizes that were traced."""
    size = min(SCORE_BATCH_SIZE, feed.objective.score_batch or recipe.batch_size)
    if not network.dynamic_batch:
        size = batch_of(network.example_inputs) or 1
    samples = scoring_samples(network, len(data.train), recipe)
    scored = max(1, samples // size)
    judged = JUDGE_SAMPLES * samples // SCORE_SAMPLES // size if network.branches else 0
    batches = itertools.islice(data.train.ordered(size), scored + judged)
    whole = network.module if feed.host is None else feed.host.module
    labelled = feed.objective.labelled
    by_graph = bool(network.branches or network.node_sites)  # else the module itself runs, at any size
    parts: tuple[list[Given], list[Given]] = [], []
    for i, batch in enumerate(batches):
        given = Given(feed.part_inputs(whole, batch), batch if labelled else None)
        if not by_graph or fits(network, given.inputs):
            parts[i >= scored].append(given)
    return parts


def scoring_samples(network: PrunableNetwork, samples: int, recipe: Recipe) -> int:
    """Return how many training samples channels and branches are scored on.

    Where branches can go, each group, each branch and each step of their greedy removal is a forward of them
    all, and each cut in the end four: a network with many is scored on fewer, in a short training too.
    """
    if not network.branches:
        return SCORE_SAMPLES
    groups, branches = len(network.groups), len(network.branches)
    forwards = 1 + groups + branches * (branches + 1) // 2 + 4 * CUTS
    work = 3 * samples * (recipe.mask_epochs + recipe.tune_epochs)
    return int(min(SCORE_SAMPLES, max(LEAST_SAMPLES, SCORE_SHARE * work / forwards)))
