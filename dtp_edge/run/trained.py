"""The part of a run that needs data: masks are learned, the network is cut, and what is left is tuned."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import batch_of
from dtp_edge.run.calibrated_start import calibrated_start
from dtp_edge.run.fixed_sizes import as_traced, fits
from dtp_edge.run.judge import FittedJudge
from dtp_edge.run.known_scores import KnownScores
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.outputs import first_process
from dtp_edge.run.proved import Cut, cut_and_prove
from dtp_edge.run.quantised import require_readable
from dtp_edge.run.task import Task
from dtp_edge.run.warm_start import require_masks
from dtp_edge.surgery import Compact, refit_to_train
from dtp_edge.training import (
    DataSource,
    Recipe,
    Several,
    TensorBoardLog,
    TrainingOutcome,
    check_compatible,
    run_training,
)
from dtp_edge.training.distil import BlockDistillation
from dtp_edge.training.feed import Feed
from dtp_edge.training.phase import Progress
from dtp_edge.transport import MaskLearner
from dtp_edge.transport.batch_loss import Given

SCORE_SAMPLES, SCORE_BATCH_SIZE = 256, 64  # training samples that Taylor scores start from
JUDGE_SAMPLES = 512  # others, which cuts with and without branches are compared on
LEAST_SAMPLES = 64  # fewer say little of a loss
SCORE_SHARE = 0.6  # of the training's own work (three forwards a sample) that scoring and judging may take
CUTS = 28  # that are judged in the end, or so: fitted on the scored samples, measured on the others


def train_and_cut(task: Task, data: DataSource, options: Options, listener: Listener) -> Cut:
    """Train on `data` as the options say, cut on the way, and prove the network that came out of it.

    **Raises:** `InputError` if data and network do not fit, `UnsupportedError` if the result could not be
    stored (before any training), `CheckError` if a proof fails.
    """
    aim = options.aim()
    options = replace(options, objective=aim)
    called, inputs = task.network.module, task.network.example_inputs
    if task.whole is not None:
        called, inputs = task.whole.module, task.whole.example_inputs
    check_compatible(data, called, inputs, aim)
    if options.int8:
        require_readable(task, data, aim)
    outcome, compacted, rises = _train(
        task.require_deliverable(files=options.out is not None), data, options, listener
    )
    listener.begin("cutting, and proving that the result is the same")
    return Cut.trained(task, outcome, compacted, rises)


def _train(
    task: Task, data: DataSource, options: Options, listener: Listener
) -> tuple[TrainingOutcome, Compact, dict[str, float]]:
    """Return what training left, the compact network that was tuned in it, and what branches were worth."""
    network, cuts, keeps, learners, unfit, notes, seconds, rises = task.network, [], [], [], [], [], {}, {}
    recipe = options.schedule(network)
    if options.warm is not None:
        require_masks(recipe)
    feed = Feed(options.aim(), network.module, task.whole)

    def make_learner(steps: int) -> MaskLearner:
        began = time.monotonic()
        scored, judged = scoring_batches(network, data, feed, recipe)
        given: dict[str, Any] = {"batches": scored or None, "judged": judged}
        if network.branches:
            listener.begin(f"measuring what {len(network.groups)} groups and branches are worth")
        if feed.objective.labelled:
            given["loss"] = feed.worth
        given |= {} if options.warm is None else options.warm.begin(task)
        known = KnownScores.of(options.shared, network, data, feed, scored)
        learners.append(task.learner(steps, **given, known=known.losses))
        known.keep()
        seconds["scores"] = time.monotonic() - began
        return learners[-1]

    def cut(keep: np.ndarray) -> nn.Module:
        keeps.append(keep)
        cuts.append(cut_and_prove(network, keep)[0])
        return cuts[-1].module

    def fit(dense: nn.Module, batches: list[tuple[Any, ...]]) -> None:
        if found := as_traced(network, batches):
            refit_to_train(network, cuts[-1], dense.state_dict(), found, seed=options.seed)
        else:
            unfit.append(True)

    def calibrated() -> tuple[np.ndarray, nn.Module]:
        began = time.monotonic()
        chosen, found = calibrated_start(task, data, options, listener)
        keeps.append(chosen.keep)
        cuts.append(found)
        rises.update(chosen.rises)
        notes.extend(chosen.notes)
        seconds["calibration"] = time.monotonic() - began
        return chosen.keep, found.module

    def compare(teacher: nn.Module) -> BlockDistillation | None:
        compacted = cuts[-1]
        in_graph = compacted.kind == "graph"
        return BlockDistillation.of_compact(network, keeps[-1], compacted.module, teacher, in_graph=in_graph)

    outcome = run_training(
        network.module,
        data,
        recipe,
        make_learner=make_learner,
        mask_share=1.0 if options.warm is None else options.warm.mask_share,
        cut=cut,
        refit=fit,
        compare=compare,
        calibrated=calibrated,
        progress=_progress(options, listener),
        checkpoint_dir=options.out / "checkpoint" if options.out is not None else None,
        resume=options.resume,
        seed=options.seed,
        shared=options.shared,
        objective=feed.objective,
        host=task.whole,
        identity={
            "device": task.cost.profile.name,
            "limits": dict(task.limits),
            "layer_keep": task.layer_keep,
            "weights": task.dense_sha256,
            **({} if task.whole is None else {"part": task.whole.path}),
            **({"branches": len(task.network.branches)} if task.network.branches else {}),
            **({} if options.warm is None else {"begins_with": dict(options.warm.limits)}),
        },
    )
    outcome.warnings.extend(notes)
    if unfit:
        outcome.warnings.append(
            "No training batch has the sizes of the example input: nothing was fitted to the dense network "
            "at the cut."
        )
    if learners:
        rises = learners[-1].branch_rises()
        if isinstance(judge := learners[-1].judge, FittedJudge) and judge.seconds:
            seconds["choice of the cut"] = judge.seconds
            outcome.seconds["masks"] -= judge.seconds  # it is their last step
    outcome.seconds |= seconds
    return outcome, cuts[-1], rises


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


def _progress(options: Options, listener: Listener) -> Progress | None:
    """The caller's callback, and TensorBoard beside it where it was asked for (by the first process)."""
    if not options.tensorboard or not first_process():
        return listener.progress
    if options.out is None:
        raise InputError("TensorBoard needs an output folder", hint="Name one with --out.")
    board = TensorBoardLog(options.out / "tensorboard")
    return board if listener.progress is None else Several(listener.progress, board)
