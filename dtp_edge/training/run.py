"""The whole training of a pruned network: base, masks under a falling budget, cut, fine-tune, control."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.graph.part import Whole
from dtp_edge.training.checkpoint import Store
from dtp_edge.training.data.source import DataSource
from dtp_edge.training.distil import BlockDistillation
from dtp_edge.training.dry_run import rehearse
from dtp_edge.training.feed import Feed, telling
from dtp_edge.training.loop import run_phase
from dtp_edge.training.objectives import nests
from dtp_edge.training.objectives.base import Objective
from dtp_edge.training.objectives.classification import judged_by_top1
from dtp_edge.training.objectives.registry import objective_of
from dtp_edge.training.outcome import TrainingOutcome as TrainingOutcome
from dtp_edge.training.outcome import score_all
from dtp_edge.training.phase import Phase, Progress, Row, Session
from dtp_edge.training.recalibrate import recalibrate
from dtp_edge.training.recipe import Recipe
from dtp_edge.training.refit_inputs import refit_batches
from dtp_edge.training.runtime import Runtime, move
from dtp_edge.training.shared import PHASES, Shared


def open_session(
    data: DataSource,
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    checkpoint_seconds: float = 30.0,
    shared: Path | None = None,
    write_shared: bool = False,
    objective: Objective | None = None,
    network: nn.Module | None = None,
    host: Whole | None = None,
) -> Session:
    """Start the processes' runtime and open the checkpoint folder.

    `identity` (JSON values: network, budget, device) is stored and compared on resume; of it, `weights` names
    the network that the phases in the folder `shared` begin with. `objective` None is the data's own;
    `network` is what is called with its inputs, or the part of `host` that is trained and pruned.
    """
    runtime = Runtime(recipe)
    recipe = replace(recipe, mixed_precision=runtime.precision)
    objective = objective_of(objective, data)
    with telling("begin", objective):
        objective.begin(network if host is None else host.module, recipe)
    feed = Feed(objective, network, host, recipe.channels_last)
    known: dict[str, Any] = {"data": data.name, "train": len(data.train)}
    if not judged_by_top1(objective):
        known["objective"] = {"name": objective.name or type(objective).__name__, **objective.settings()}
    run = {"recipe": recipe.to_json(), **known, **(identity or {})}
    common = None
    if shared is not None:
        known["weights"] = (identity or {}).get("weights")
        common = Shared.of(shared, known, recipe, write=write_shared and runtime.main)
    store = None
    if checkpoint_dir is not None:
        store = Store(Path(checkpoint_dir), run, resume, write=runtime.main)
        runtime.wait()
    return Session(data, recipe, runtime, progress, store, checkpoint_seconds, shared=common, feed=feed)


def train_base(module: nn.Module, session: Session) -> list[Row]:
    """Train the dense network in place for `base_epochs` from the weights it has."""
    recipe = session.recipe
    steps = session.steps(recipe.base_epochs)
    return run_phase(Phase("base", module, steps, recipe.base_learning_rate, keep_best=True), session)


def learn_masks(
    learner: Any, session: Session, teacher: nn.Module | None, whole: nn.Module | None = None
) -> list[Row]:
    """Learn weights and scores together for the learner's `total_steps`; it is a `transport.MaskLearner`.

    Its plan is stepped once a batch, after the optimiser. `whole` is the larger network that it stands in.
    """
    recipe = session.recipe

    def after_step() -> Mapping[str, float]:
        learner.step()
        return learner.log()

    rate = recipe.score_learning_rate
    phase = Phase(
        "masks",
        learner if whole is None else whole,
        learner.total_steps,
        recipe.mask_learning_rate,
        teacher,
        after_step,
        tuple(learner.score_parameters()),
        recipe.mask_learning_rate if rate is None else rate,
    )
    return run_phase(phase, session)


def fine_tune(
    module: nn.Module,
    session: Session,
    teacher: nn.Module | None,
    *,
    name: str = "fine-tune",
    epochs: float | None = None,
    blocks: BlockDistillation | None = None,
) -> list[Row]:
    """Train in place with a fresh schedule, its blocks too where given; the best on the hold-out remains."""
    recipe = session.recipe
    steps = session.steps(recipe.tune_epochs if epochs is None else epochs)
    if blocks is not None and session.feed.host is None:
        teacher = blocks.teacher
    phase = Phase(name, module, steps, recipe.tune_learning_rate, teacher, keep_best=True, blocks=blocks)
    with nullcontext() if blocks is None else closing(blocks):
        return run_phase(phase, session)


def run_training(
    model: nn.Module,
    data: DataSource,
    recipe: Recipe,
    *,
    make_learner: Callable[[int], Any],
    cut: Callable[[np.ndarray], nn.Module],
    refit: Callable[[nn.Module, list[tuple[Any, ...]]], Any] | None = None,
    compare: Callable[[nn.Module], BlockDistillation | None] | None = None,
    calibrated: Callable[[], tuple[np.ndarray, nn.Module]] | None = None,
    progress: Progress | None = None,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    control: bool = True,
    identity: Mapping[str, Any] | None = None,
    checkpoint_seconds: float = 30.0,
    shared: Path | None = None,
    mask_share: float = 1.0,
    objective: Objective | None = None,
    host: Whole | None = None,
) -> TrainingOutcome:
    """Train `model` in place as `recipe` says, learn masks, cut, fine-tune.

    `make_learner(total_steps)` builds the mask learner around `model` as the base phase left it;
    `cut(keep)` returns the compact network; `refit(base, batches)` may then fit it to the base's outputs on
    batches of its arguments, and `compare(teacher)` say which outputs of its blocks are compared with those
    of the dense teacher. A recipe without mask epochs takes what `calibrated()` cuts and fits. The dense
    `control` starts from the same base and gets the same number of steps with the same loss; without labels
    there is none, for the base is all that it could be.
    The test set is read once, at the end. `seed` takes precedence over the recipe's. Base and control are
    taken from `shared` where `train_shared` left them; a warm start takes `mask_share` of the mask steps.
    With a `host`, `model` is the part of it that is pruned, and the whole is trained and scored.
    """
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    if not recipe.mask_epochs and calibrated is None:
        raise InputError(
            "mask_epochs is 0, so no masks can be learned, and nothing calibrates",
            where="run_training",
            hint="Give mask_epochs above 0, or `calibrated`; prune_for_device does all of it.",
        )
    session = open_session(
        data,
        recipe,
        progress=progress,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        identity=identity,
        checkpoint_seconds=checkpoint_seconds,
        shared=shared,
        objective=objective,
        network=model,
        host=host,
    )
    recipe, feed = session.recipe, session.feed
    around = feed.around
    rehearse(around(model), session)
    base, teacher = _base_and_teacher(around(model), session)

    if calibrated is not None and not recipe.mask_epochs:
        move(model, "cpu")
        keep, compact = calibrated()
        whole = around(move(compact, session.runtime.device))
    else:
        learner = make_learner(max(1, round(mask_share * session.steps(recipe.mask_epochs))))
        learn_masks(learner, session, teacher, around(learner))
        keep = learner.harden()
        compact = move(cut(keep), session.runtime.device)
        if refit is not None and (batches := refit_batches(data, recipe, feed, base)):
            batches = [nests.moved(batch, session.runtime.device) for batch in batches]
            refit(feed.inside(base), batches)
        whole = around(compact)
        recalibrate(whole, data, recipe.recalibrate_batches, recipe.batch_size, recipe.seed, feed)
    at_cut = copy.deepcopy(whole)
    blocks = None
    if compare is not None and teacher is not None and recipe.block_distill:
        blocks = compare(feed.inside(teacher))
        if blocks is not None and host is not None:
            around(blocks.teacher, teacher)
    fine_tune(whole, session, teacher, blocks=blocks)

    dense = _control(base, teacher, session) if control and feed.objective.labelled else None
    networks = {"base": base, "at_cut": at_cut, "pruned": whole, "control": dense}
    scores = score_all(networks, session)
    for network in (whole, model, *([] if dense is None else [dense])):
        move(network, "cpu").eval()
    return TrainingOutcome(
        keep, compact, dense, scores.test, scores.holdout, session.curves, session.seconds, recipe.to_json(),
        session.warnings, scores.intervals, scores.why_no_interval, None if host is None else whole,
        feed.objective, session.judge,
    )  # fmt: skip


def train_shared(
    model: nn.Module,
    data: DataSource,
    recipe: Recipe,
    folder: Path,
    *,
    weights: str,
    progress: Progress | None = None,
    seed: int | None = None,
    objective: Objective | None = None,
    host: Whole | None = None,
) -> None:
    """Train and score in `folder` what runs on these `weights` share: base and control.

    What is there already is not done again, and what was begun goes on. `model` is trained in place;
    `weights` names it, as the runs' identity does; with a `host` it is the part, and the whole is trained.
    """
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    session = open_session(
        data, recipe, progress=progress, identity={"weights": weights}, shared=folder, write_shared=True,
        objective=objective, network=model, host=host,
    )  # fmt: skip
    shared = session.shared
    if shared is None or all(shared.scores(phase) for phase in PHASES):
        return
    learning = session.feed.around(model)
    rehearse(learning, session)
    base, teacher = _base_and_teacher(learning, session)
    labelled = session.feed.objective.labelled
    networks = {"base": base, "control": _control(base, teacher, session) if labelled else None}
    scores = score_all(networks, session)
    if shared.write:
        for phase, held in scores.holdout.items():
            shared.note(phase, float(scores.test[phase] or 0.0), held, scores.intervals.get(phase))


def _base_and_teacher(model: nn.Module, session: Session) -> tuple[nn.Module, nn.Module | None]:
    """Train `model` in place where the recipe says so; return copies of it, the second one frozen."""
    labelled = session.feed.objective.labelled
    if session.recipe.base_epochs and not labelled:
        raise InputError(
            "without labels the dense network cannot be trained first",
            where="base_epochs",
            hint="Give trained weights and base_epochs=0, or an objective with labels.",
        )
    if session.recipe.base_epochs:
        train_base(model, session)
    base = copy.deepcopy(model)
    taught = session.recipe.distill or session.recipe.block_distill or not labelled
    teacher = _frozen(copy.deepcopy(base)) if taught else None
    session.judge = None if labelled else teacher
    return base, teacher


def _control(base: nn.Module, teacher: nn.Module | None, session: Session) -> nn.Module:
    """Return the dense network trained as long, with the same loss, as masks and fine-tune take."""
    recipe, dense = session.recipe, copy.deepcopy(base)
    fine_tune(dense, session, teacher, name="control", epochs=recipe.mask_epochs + recipe.tune_epochs)
    return dense


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False).eval()
