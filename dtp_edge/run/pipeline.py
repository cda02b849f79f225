"""prune_for_device(): the boxes in order, nothing else.

trace → cost → budget (refused here if it cannot be reached) → masks → surgery → proof → ONNX → proof →
measurement → report. Nothing appears in the output folder before the last proof has passed.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dtp_edge.errors import CheckError, InputError, UnsupportedError
from dtp_edge.graph import MaskedNetwork, PrunableNetwork, trace_network
from dtp_edge.int8 import precision_refusal
from dtp_edge.measure import load_profile
from dtp_edge.onnx.interface import source_checks, source_notes
from dtp_edge.onnx.opsets import OPSET, refuse_opset
from dtp_edge.profiles import Profile
from dtp_edge.proof import Check, check_masked_equals_compact, require
from dtp_edge.run import facts as summary
from dtp_edge.run.delivery import deliver, weights_sha256
from dtp_edge.run.outputs import first_process, refuse_finished, staged
from dtp_edge.run.result import PruneResult
from dtp_edge.run.task import Task
from dtp_edge.surgery import Compact, compact, put_back, refit
from dtp_edge.transport import Budget, MaskLearner, initial_scores, prices

SCORE_BATCHES, SCORE_BATCH_SIZE = 4, 64  # training images that Taylor scores start from
Progress = Any  # training.ProgressCallback: progress(phase, done, total, info)


@dataclass
class RunContext:
    """What the report says about a run besides its results; all of it optional."""

    command: str | None = None
    seed: int = 0
    model_name: str | None = None
    model_source: str | None = None
    data: Any = None
    budget: Budget | None = None
    int8: bool = False
    int8_method: str = "best"
    dynamic_batch: bool = False
    opset: int = OPSET
    measure: bool = True
    progress: Progress = None
    stage: Callable[[str], None] | None = None  # told what begins, of the parts that are no training
    tensorboard: bool = False
    warnings: list[str] = field(default_factory=list)
    dense_sha256: str = ""
    started: float = field(default_factory=time.monotonic)

    def begin(self, text: str) -> None:
        """Say what the run does from here on."""
        if self.stage is not None:
            self.stage(text)

    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started


def prune_for_device(
    model: nn.Module,
    example_inputs: torch.Tensor | tuple[Any, ...],
    *,
    device: str | Path | Profile = "host",
    budget: Budget,
    data: Any = None,
    recipe: Any = None,
    epochs: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    exclude: Sequence[str] = (),
    resume: bool = False,
    force: bool = False,
    context: RunContext | None = None,
) -> PruneResult:
    """Prune `model` until every budget holds on `device`, and prove the result.

    **Arguments:**

    - `model`: any network that `torch.export` can trace; it is copied, never changed.
    - `example_inputs`: a tensor or tuple of tensors, batch first.
    - `device`: a shipped profile's name, a path to a profile, or "host" (this machine).
    - `budget`: see `Budget`; every part of it must hold.
    - `data`: a `training.DataSource` or its spec ("digits", "cifar10:DIR", ...). Without data the run is
      one-shot: scores from the weights, no training.
    - `recipe`, `epochs`: how to train; `epochs` is split over masks and fine-tuning.
    - `out`: folder for the results; None writes nothing.
    - `exclude`: names of modules to leave whole.

    **Raises:** `UnsupportedError` (cannot be traced), `InputError`, `BudgetError` (before any training),
    `CheckError` (a proof failed; nothing that looks finished is left).
    """
    context = context or RunContext(seed=seed)
    context.seed, context.budget = seed, budget
    refuse_opset(context.opset)
    out = Path(out) if out is not None else None
    if out is not None:
        refuse_finished(out, force=force or resume)
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    refuse_nonfinite(model)
    context.dense_sha256 = weights_sha256(model)
    torch.manual_seed(seed)
    model = copy.deepcopy(model)
    profile = load_profile(device)
    if context.int8:
        refuse_int8(profile, data)
    context.begin("tracing the network")
    network = trace_network(model, inputs, exclude=exclude)
    task = Task.of(network, profile, budget).require_feasible()
    if data is None:
        context.begin("choosing the widths")
        return finish_task(task, task.harden(initial_scores(network)), out=out, context=context)
    return _train_and_finish(
        task, data, recipe=recipe, epochs=epochs, out=out, resume=resume, context=context
    )


def _train_and_finish(
    task: Task,
    data: Any,
    *,
    recipe: Any,
    epochs: int | None,
    out: Path | None,
    resume: bool,
    context: RunContext,
) -> PruneResult:
    from dtp_edge.training import Recipe, check_compatible, load_data, run_training

    network, cost, limits = task.network, task.cost, task.limits
    data = load_data(data) if isinstance(data, str) else data
    check_compatible(data, network.module, network.example_inputs)
    recipe = recipe or (Recipe.for_epochs(epochs) if epochs is not None else Recipe())
    context.data = data
    cuts: list[Compact] = []

    def make_learner(total_steps: int) -> MaskLearner:
        batches = itertools.islice(data.train.ordered(SCORE_BATCH_SIZE), SCORE_BATCHES)
        price = prices(network, cost, limits)
        scores = initial_scores(network, "taylor", batches=list(batches), price=price)
        return MaskLearner(
            network, cost, limits, total_steps, scores=scores, layer_keep=task.layer_keep or None
        )

    def cut(keep: np.ndarray) -> nn.Module:
        cuts.append(cut_and_prove(network, keep)[0])
        return cuts[-1].module

    def fit(dense: nn.Module, images: torch.Tensor) -> None:
        refit(network, cuts[-1], dense.state_dict(), (images,), seed=context.seed)

    outcome = run_training(
        network.module,
        data,
        recipe,
        make_learner=make_learner,
        cut=cut,
        refit=fit,
        progress=_progress(context, out),
        checkpoint_dir=out / "checkpoint" if out is not None else None,
        resume=resume,
        seed=context.seed,
        identity={
            "device": cost.profile.name,
            "limits": dict(limits),
            "layer_keep": task.layer_keep,
            "weights": context.dense_sha256,
        },
    )
    if not first_process():  # every process holds the result, the first one writes it
        out, context.measure = None, False
    return finish_task(task, outcome.keep, out=out, training=outcome, compacted=cuts[-1], context=context)


def _progress(context: RunContext, out: Path | None) -> Progress:
    """The caller's callback, and TensorBoard beside it where it was asked for (by the first process)."""
    if not context.tensorboard or not first_process():
        return context.progress
    from dtp_edge.training import Several, TensorBoardLog

    if out is None:
        raise InputError("TensorBoard needs an output folder", hint="Name one with --out.")
    board = TensorBoardLog(out / "tensorboard")
    return board if context.progress is None else Several(context.progress, board)


def cut_and_prove(network: PrunableNetwork, keep: np.ndarray) -> tuple[Compact, list[Check]]:
    """Cut the network and prove that the result is the same."""
    result = compact(network, keep)
    return result, prove(network, keep, result)


def prove(network: PrunableNetwork, keep: np.ndarray, compacted: Compact) -> list[Check]:
    """Prove masked ≡ compact, with its own weights and with randomised ones; raises `CheckError`."""
    checks = [
        check_masked_equals_compact(network, keep, compacted, randomise=False),
        check_masked_equals_compact(network, keep, compacted, randomise=True),
    ]
    require(checks)
    return checks


def finish_task(
    task: Task,
    keep: np.ndarray,
    *,
    out: str | Path | None = None,
    training: Any = None,
    compacted: Compact | None = None,
    context: RunContext | None = None,
) -> PruneResult:
    """Cut, prove, export, prove again, measure, report: everything after the widths are known.

    `training` is a `training.TrainingOutcome` when the run had data; `compacted` the network that was
    fine-tuned after the cut (its weights are put back into the dense one, so that the masked network
    computes the same).

    **Raises:** `CheckError` if a proof fails or a budget does not hold on the final widths, `InputError`
    if training left weights that are not finite.
    """
    context = context or RunContext()
    out = Path(out) if out is not None else None
    network, cost, limits = task.network, task.cost, task.limits
    context.warnings = list(dict.fromkeys([*context.warnings, *source_notes(network.module)]))
    refuse_nonfinite(network.module if compacted is None else compacted.module)
    context.begin("cutting, and proving that the result is the same")
    if compacted is None:
        compacted, checks = cut_and_prove(network, keep)
    else:
        put_back(network, compacted)
        checks = prove(network, keep, compacted)
    checks = [*source_checks(network.module), *checks, task.check(keep)]
    require(checks)
    result = PruneResult(
        module=compacted.module,
        masked=MaskedNetwork(network, keep),
        widths=network.widths(keep),
        kept=compacted.kept,
        frozen=[(f.name, f.reason) for f in network.frozen],
        report={},
        out=out,
        warnings=context.warnings,
    )
    where: AbstractContextManager[Path | None] = staged(out) if out is not None else nullcontext()
    with where as stage:
        delivery = deliver(network, keep, compacted, cost, context=context, stage=stage, checks=checks)
        context.begin("writing the report")
        result.report = summary.build(
            network, keep, cost, limits, delivery=delivery, training=training, context=context, task=task
        )
        if stage is not None:
            from dtp_edge.report import write_report

            write_report(stage, result.report)
            if training is not None:
                from dtp_edge.training import write_csv

                write_csv(stage / "curve.csv", training.curves)
    if out is not None:
        result.onnx = out / "model.onnx"
        result.onnx_int8 = out / "model.int8.onnx" if context.int8 else None
    return result


def refuse_int8(profile: Profile, data: Any) -> None:
    """Raise UnsupportedError where int8 was asked for and the device or the run cannot have it."""
    if reason := precision_refusal(profile):
        raise UnsupportedError(reason, where="--int8", hint="Leave --int8 out, or name an int8 profile.")
    if data is None:
        raise UnsupportedError(
            "int8 needs data to calibrate on", where="--int8", hint="Give --data, or leave --int8 out."
        )


def refuse_nonfinite(model: nn.Module) -> None:
    """Raise InputError if a weight is NaN or infinite: no score computed from it would mean anything."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(
                "holds NaN or infinite values",
                where=name,
                hint="Load a checkpoint whose training did not diverge.",
            )


__all__ = [
    "CheckError",
    "PruneResult",
    "RunContext",
    "cut_and_prove",
    "finish_task",
    "prune_for_device",
]
