"""The part of a run that needs data: masks are learned, the network is cut, and what is left is tuned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.outputs import first_process
from dtp_edge.run.proved import Cut
from dtp_edge.run.quantised import require_readable
from dtp_edge.run.task import Task
from dtp_edge.run.training_steps import TrainingSteps
from dtp_edge.run.warm_start import require_masks
from dtp_edge.surgery import Compact
from dtp_edge.training import (
    DataSource,
    Several,
    TensorBoardLog,
    TrainingOutcome,
    check_compatible,
    run_training,
)
from dtp_edge.training.feed import Feed
from dtp_edge.training.phase import Progress


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
    recipe = options.schedule(task.network)
    if options.warm is not None:
        require_masks(recipe)
    feed = Feed(options.aim(), task.network.module, task.whole)
    steps = TrainingSteps(task, data, options, listener, recipe, feed)
    outcome = run_training(
        task.network.module,
        data,
        recipe,
        make_learner=steps.make_learner,
        mask_share=1.0 if options.warm is None else options.warm.mask_share,
        cut=steps.cut,
        refit=steps.refit,
        compare=steps.compare,
        calibrated=steps.calibrated,
        progress=_progress(options, listener),
        checkpoint_dir=options.out / "checkpoint" if options.out is not None else None,
        resume=options.resume,
        seed=options.seed,
        shared=options.shared,
        objective=feed.objective,
        host=task.whole,
        identity=_identity(task, options),
    )
    steps.tell(outcome)
    return outcome, steps.compacted, steps.rises


def _identity(task: Task, options: Options) -> dict[str, Any]:
    """What a run that is resumed must have been told alike (JSON values)."""
    return {
        "device": task.cost.profile.name,
        "limits": dict(task.limits),
        "layer_keep": task.layer_keep,
        "weights": task.dense_sha256,
        **({} if task.whole is None else {"part": task.whole.path}),
        **({"branches": len(task.network.branches)} if task.network.branches else {}),
        **({} if options.warm is None else {"begins_with": dict(options.warm.limits)}),
    }


def _progress(options: Options, listener: Listener) -> Progress | None:
    """The caller's callback, and TensorBoard beside it where it was asked for (by the first process)."""
    if not options.tensorboard or not first_process():
        return listener.progress
    if options.out is None:
        raise InputError("TensorBoard needs an output folder", hint="Name one with --out.")
    board = TensorBoardLog(options.out / "tensorboard")
    return board if listener.progress is None else Several(listener.progress, board)
