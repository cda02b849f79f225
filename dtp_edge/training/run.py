"""The whole training of a pruned network: base, masks under a falling budget, cut, fine-tune, control."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.training.checkpoint import Store
from dtp_edge.training.data.source import DataSource
from dtp_edge.training.distil import BlockDistillation
from dtp_edge.training.evaluate import evaluate
from dtp_edge.training.loop import run_phase
from dtp_edge.training.phase import Phase, Progress, Row, Session
from dtp_edge.training.recalibrate import recalibrate
from dtp_edge.training.recipe import Recipe
from dtp_edge.training.runtime import Runtime, move
from dtp_edge.training.shared import PHASES, Shared

_REFIT_PIXELS = 2**22  # 83 images of 224 x 224


@dataclass
class TrainingOutcome:
    """What training leaves behind.

    `accuracy` holds shares of the test set, 0..1: `base`, `at_cut` (compact, not yet fine-tuned), `pruned`,
    `control` (dense, trained as long; None if it was not asked for), and `n_test`. `holdout_accuracy` holds
    the same of the hold-out, which chose. `curves` has a row a step, `seconds` the time of each phase,
    `warnings` a sentence for what a person should know.
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
) -> Session:
    """Start the processes' runtime and open the checkpoint folder.

    `identity` (JSON values: network, budget, device) is stored and compared on resume; of it, `weights` names
    the network that the phases in the folder `shared` begin with.
    """
    runtime = Runtime(recipe)
    recipe = replace(recipe, mixed_precision=runtime.precision)
    known = {"data": data.name, "train": len(data.train)}
    run = {"recipe": recipe.to_json(), **known, **(identity or {})}
    common = None
    if shared is not None:
        known["weights"] = (identity or {}).get("weights")
        common = Shared.of(shared, known, recipe, write=write_shared and runtime.main)
    store = None
    if checkpoint_dir is not None:
        store = Store(Path(checkpoint_dir), run, resume, write=runtime.main)
        runtime.wait()
    return Session(data, recipe, runtime, progress, store, checkpoint_seconds, shared=common)


def train_base(module: nn.Module, session: Session) -> list[Row]:
    """Train the dense network in place for `base_epochs` from the weights it has."""
    recipe = session.recipe
    steps = session.steps(recipe.base_epochs)
    return run_phase(Phase("base", module, steps, recipe.base_learning_rate, keep_best=True), session)


def learn_masks(learner: Any, session: Session, teacher: nn.Module | None) -> list[Row]:
    """Learn weights and scores together for the learner's `total_steps`; it is a `transport.MaskLearner`.

    Its plan is stepped once a batch, after the optimiser.
    """
    recipe = session.recipe

    def after_step() -> Mapping[str, float]:
        learner.step()
        return learner.log()

    rate = recipe.score_learning_rate
    phase = Phase(
        "masks",
        learner,
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
    refit: Callable[[nn.Module, Tensor], Any] | None = None,
    compare: Callable[[nn.Module], BlockDistillation | None] | None = None,
    progress: Progress | None = None,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    control: bool = True,
    identity: Mapping[str, Any] | None = None,
    checkpoint_seconds: float = 30.0,
    shared: Path | None = None,
    mask_share: float = 1.0,
) -> TrainingOutcome:
    """Train `model` in place as `recipe` says, learn masks, cut, fine-tune.

    `make_learner(total_steps)` builds the mask learner around `model` as the base phase left it;
    `cut(keep)` returns the compact network; `refit(base, images)` may then fit it to the base's outputs,
    and `compare(teacher)` say which outputs of its blocks are compared with those of the dense teacher.
    The dense `control` starts from the same base and gets the same number of steps with the same loss.
    The test set is read once, at the end. `seed` takes precedence over the recipe's. Base and control are
    taken from `shared` where `train_shared` left them; a warm start takes `mask_share` of the mask steps.
    """
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    session = open_session(
        data,
        recipe,
        progress=progress,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        identity=identity,
        checkpoint_seconds=checkpoint_seconds,
        shared=shared,
    )
    recipe = session.recipe
    base, teacher = _base_and_teacher(model, session)

    learner = make_learner(max(1, round(mask_share * _mask_steps(session))))
    learn_masks(learner, session, teacher)
    keep = learner.harden()

    compact = move(cut(keep), session.runtime.device)
    if refit is not None:
        _fit_to(base, refit, session)
    recalibrate(compact, data, recipe.recalibrate_batches, recipe.batch_size, recipe.seed)
    at_cut = copy.deepcopy(compact)
    wanted = compare is not None and teacher is not None and bool(recipe.block_distill)
    fine_tune(compact, session, teacher, blocks=compare(teacher) if wanted else None)  # type: ignore[misc]

    dense = _control(base, teacher, session) if control else None
    networks = {"base": base, "at_cut": at_cut, "pruned": compact, "control": dense}
    accuracy, holdout = _score_all(networks, session)
    for network in (compact, model, *([] if dense is None else [dense])):
        move(network, "cpu").eval()
    return TrainingOutcome(
        keep, compact, dense, accuracy, holdout, session.curves, session.seconds, recipe.to_json(),
        session.warnings,
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
) -> None:
    """Train and score in `folder` what runs on these `weights` share: base and control.

    What is there already is not done again, and what was begun goes on. `model` is trained in place;
    `weights` names it, as the runs' identity does.
    """
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    session = open_session(
        data, recipe, progress=progress, identity={"weights": weights}, shared=folder, write_shared=True
    )
    shared = session.shared
    if shared is None or all(shared.scores(phase) for phase in PHASES):
        return
    base, teacher = _base_and_teacher(model, session)
    networks = {"base": base, "control": _control(base, teacher, session)}
    test, holdout = _score_all(networks, session)
    if shared.write:
        for phase in PHASES:
            shared.note(phase, float(test[phase] or 0.0), holdout[phase])


def _base_and_teacher(model: nn.Module, session: Session) -> tuple[nn.Module, nn.Module | None]:
    """Train `model` in place where the recipe says so; return copies of it, the second one frozen."""
    if session.recipe.base_epochs:
        train_base(model, session)
    base = copy.deepcopy(model)
    taught = session.recipe.distill or session.recipe.block_distill
    return base, _frozen(copy.deepcopy(base)) if taught else None


def _control(base: nn.Module, teacher: nn.Module | None, session: Session) -> nn.Module:
    """Return the dense network trained as long, with the same loss, as masks and fine-tune take."""
    recipe, dense = session.recipe, copy.deepcopy(base)
    fine_tune(dense, session, teacher, name="control", epochs=recipe.mask_epochs + recipe.tune_epochs)
    return dense


def _mask_steps(session: Session) -> int:
    steps = session.steps(session.recipe.mask_epochs)
    if steps == 0:
        raise InputError(
            "mask_epochs is 0, so no masks can be learned",
            hint="Give mask_epochs above 0, or leave the data out for a one-shot run.",
        )
    return steps


def _fit_to(base: nn.Module, refit: Callable[[nn.Module, Tensor], Any], session: Session) -> None:
    images = refit_images(session.data, session.recipe)
    if images is not None:
        refit(base, images.to(session.runtime.device))


def refit_images(data: DataSource, recipe: Recipe) -> Tensor | None:
    """Training images that the compact network is fitted on, `[B, C, H, W]`, the same in every process.

    One batch of at most `refit_images`, fewer of large ones so that their activations fit into memory.
    """
    count = min(recipe.refit_images, max(16, _REFIT_PIXELS // math.prod(data.input_shape[1:])))
    if recipe.refit_images < 1:
        return None
    size = min(count, recipe.batch_size, len(data.train))
    found: list[Tensor] = []
    for x, _ in data.train.shuffled(size, seed=recipe.seed, epoch=0):
        found.append(x)
        if sum(map(len, found)) >= count:
            break
    return torch.cat(found)[:count]


def _score_all(
    networks: Mapping[str, nn.Module | None], session: Session
) -> tuple[dict[str, float | int | None], dict[str, float]]:
    """Test and hold-out accuracy of each network; those of shared phases as they were scored before."""
    test: dict[str, float | int | None] = {}
    holdout: dict[str, float] = {}
    for name, network in networks.items():
        if network is None:
            test[name] = None
            continue
        known = None if session.shared is None else session.shared.scores(name)
        if known is not None:
            test[name], holdout[name] = known
            continue
        move(network, session.runtime.device)
        test[name] = evaluate(network, session.data.test, runtime=session.runtime)
        holdout[name] = evaluate(network, session.data.holdout, runtime=session.runtime)
    test["n_test"] = len(session.data.test)
    return test, holdout


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False).eval()
