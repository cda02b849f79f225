"""One phase of training: the same loop for the dense base, the masks, the fine-tune and the control."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dtp_edge.errors import DtpEdgeError, InputError, Interrupted
from dtp_edge.training.checkpoint import (
    PhaseState,
    Store,
    load_optimizer,
    optimizer_tensors,
    rng_tensors,
    set_rng,
)
from dtp_edge.training.data.source import Batch, DataSource, _mix, batches_per_epoch
from dtp_edge.training.ema import Average
from dtp_edge.training.evaluate import class_logits, evaluate
from dtp_edge.training.layout import arrange_weights, arranged
from dtp_edge.training.loss import training_loss
from dtp_edge.training.recipe import Recipe
from dtp_edge.training.runtime import Runtime, move

Row = dict[str, Any]
_MAX_ROWS = 2000  # of a phase's curve: it is part of every checkpoint


class Progress(Protocol):
    """Called once a step: `done` of `total` steps of `phase`, and the step's numbers."""

    def __call__(self, phase: str, done: int, total: int, info: Mapping[str, Any]) -> None: ...


@dataclass
class Session:
    """What the phases of one run share."""

    data: DataSource
    recipe: Recipe
    runtime: Runtime
    progress: Progress | None = None
    store: Store | None = None
    checkpoint_seconds: float = 30.0
    seconds: dict[str, float] = field(default_factory=dict)
    curves: list[Row] = field(default_factory=list)

    def steps(self, epochs: float) -> int:
        return self.recipe.steps(epochs, batches_per_epoch(len(self.data.train), self.recipe.batch_size))


@dataclass
class Phase:
    """`module` is trained in place for `steps` steps.

    `after_step` runs behind every optimiser step and returns numbers for the curve. `scores` learn at
    their own constant rate, without weight decay. With `keep_best` the weights that do best on the
    hold-out are what remains: those of an epoch's end, or those that the phase began with.
    """

    name: str
    module: nn.Module
    steps: int
    learning_rate: float
    teacher: nn.Module | None = None
    after_step: Callable[[], Mapping[str, float]] | None = None
    scores: Sequence[nn.Parameter] = ()
    score_rate: float = 0.0
    keep_best: bool = False


def run_phase(phase: Phase, session: Session) -> list[Row]:
    """Train a phase, or continue it, or restore it if it was done before; returns its curve.

    The curve has a row a step, of long phases every n-th and those at the end of an epoch.

    Raises `InputError` when the loss stops being finite, `Interrupted` (after a checkpoint) on Ctrl-C.
    """
    loop = _Loop(phase, session)
    found = session.store.load(phase.name) if session.store else None
    try:
        if found is not None:
            loop.restore(found)
        if found is None or not found.done:
            loop.run()
    except KeyboardInterrupt as stop:
        loop.save(done=False)
        raise Interrupted(
            f"interrupted in phase {phase.name} at step {loop.step} of {phase.steps}",
            hint="Continue with --resume." if session.store else None,
        ) from stop
    finally:
        loop.close()
    session.seconds[phase.name] = loop.seconds
    session.curves.extend(loop.rows)
    return loop.rows


class _Loop:
    """The moving parts of a phase: what a checkpoint has to hold."""

    def __init__(self, phase: Phase, session: Session) -> None:
        self.phase, self.session, self.recipe = phase, session, session.recipe
        self.step, self.rows, self.best_accuracy, self.seconds = 0, [], -1.0, 0.0
        self.best: dict[str, Tensor] = {}
        runtime = session.runtime
        move(phase.module, runtime.device)
        arrange_weights(phase.module, self.recipe.channels_last, runtime.device)
        if phase.teacher is not None:
            move(phase.teacher, runtime.device).eval()
        self.wrapped, self.optimizer = runtime.prepare(phase.module, _optimizer(phase, session.recipe))
        self.average = Average(phase.module, session.recipe.ema) if session.recipe.ema else None
        torch.manual_seed(_mix(session.recipe.seed, *phase.name.encode()))

    def run(self) -> None:
        self.phase.module.train()
        began, saved = time.monotonic() - self.seconds, time.monotonic()
        if self.step == 0 and self.phase.keep_best:
            self._score()  # a phase that does harm leaves what it began with
        self._score_if_due()
        for x, y in self._batches():
            row = self._train_step(x, y)
            self.seconds = time.monotonic() - began
            if self.step % self._stride == 0 or self._at_epoch_end():
                self.rows.append(row)
            if self._at_epoch_end():
                self.save(done=False)  # scoring can take minutes: no step is lost by a kill meanwhile
                self._score_if_due()
            self.seconds = time.monotonic() - began
            if self.session.progress is not None and self.session.runtime.main:
                self.session.progress(self.phase.name, self.step, self.phase.steps, row)
            if time.monotonic() - saved > self.session.checkpoint_seconds and self.step < self.phase.steps:
                self.save(done=False)
                saved = time.monotonic()
        self._keep_best()
        self.session.runtime.agree(self.phase.module)
        self.save(done=True)

    def _train_step(self, x: Tensor, y: Tensor) -> Row:
        phase, recipe, runtime = self.phase, self.recipe, self.session.runtime
        factor = recipe.rate(self.step, phase.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * (factor if group["scheduled"] else 1.0)
        x, y = arranged(x.to(runtime.device), recipe.channels_last), y.to(runtime.device)
        parts = list(zip(x.chunk(recipe.accumulate), y.chunk(recipe.accumulate), strict=True))
        total, right = 0.0, 0
        for i, (xs, ys) in enumerate(parts):
            with runtime.no_sync(self.wrapped, skip=i < len(parts) - 1):
                with runtime.autocast():
                    logits, teacher = class_logits(self.wrapped(xs)), self._teacher_logits(xs)
                loss = training_loss(logits, ys, teacher, recipe) * (len(ys) / len(y))
                runtime.backward(loss)
            total += float(loss.detach())
            right += int((logits.detach().argmax(1) == ys).sum())
        if not math.isfinite(total):
            raise InputError(
                f"the loss is no longer finite in phase {phase.name} at step {self.step}",
                hint="Lower the learning rate, or check the data for broken images.",
            )
        if recipe.gradient_clip is not None:
            runtime.clip(self.wrapped, recipe.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        row: Row = {"phase": phase.name, "step": self.step, "loss": total, "accuracy": right / len(y)}
        row["learning_rate"] = factor * phase.learning_rate
        if phase.after_step is not None:
            row.update(phase.after_step())
        if self.average is not None:
            self.average.update(phase.module)
        return row

    def _teacher_logits(self, x: Tensor) -> Tensor | None:
        if self.phase.teacher is None or self.recipe.distill == 0:
            return None
        with torch.no_grad():
            return class_logits(self.phase.teacher(x))

    def _batches(self) -> Iterator[Batch]:
        """The batches from `self.step` to the end of the phase, over as many epochs as that takes."""
        session, recipe = self.session, self.recipe
        while self.step < self.phase.steps:
            epoch, start = divmod(self.step, self._per_epoch)
            batches = session.data.train.shuffled(
                recipe.batch_size,
                seed=_mix(recipe.seed, *self.phase.name.encode()),
                epoch=epoch,
                start=start,
                rank=session.runtime.rank,
                world=session.runtime.world,
            )
            for batch in batches:
                yield batch
                if self.step >= self.phase.steps:
                    return

    @property
    def _per_epoch(self) -> int:
        return batches_per_epoch(len(self.session.data.train), self.recipe.batch_size)

    @property
    def _stride(self) -> int:
        return max(1, self.phase.steps // _MAX_ROWS)

    def _at_epoch_end(self) -> bool:
        return self.step == self.phase.steps or self.step % self._per_epoch == 0

    def _score_if_due(self) -> None:
        """Score at the end of an epoch, unless the last row says that it was done before."""
        if not self.rows or self.rows[-1]["step"] != self.step or not self._at_epoch_end():
            return
        if "holdout_accuracy" not in self.rows[-1]:
            self.rows[-1]["holdout_accuracy"] = self._score()

    def _score(self) -> float:
        module, runtime = self.phase.module, self.session.runtime
        with self.average.swapped_in(module) if self.average else _nothing():
            runtime.agree(module)
            accuracy = evaluate(module, self.session.data.holdout, runtime=runtime)
            if self.phase.keep_best and accuracy >= self.best_accuracy:
                self.best_accuracy = accuracy
                self.best = {k: t.detach().clone() for k, t in module.state_dict().items()}
        return accuracy

    def _keep_best(self) -> None:
        if self.best:
            self.phase.module.load_state_dict(self.best)
        elif self.average is not None:
            self.average.copy_into(self.phase.module)

    def save(self, done: bool) -> None:
        if self.session.store is None:
            return
        tensors = {f"module.{k}": t for k, t in _tensors(self.phase.module).items()}
        scalars: dict[str, Any] = {}
        if not done:
            found, scalars = optimizer_tensors(self.optimizer)
            tensors |= found | rng_tensors() | {f"best.{k}": t for k, t in self.best.items()}
            if self.average is not None:
                tensors |= {f"ema.{k}": t for k, t in self.average.values.items()}
        state = PhaseState(self.step, done, tensors, self.rows, self.best_accuracy, self.seconds, scalars)
        self.session.store.save(self.phase.name, state)

    def restore(self, state: PhaseState) -> None:
        device = self.session.runtime.device
        self.step, self.rows, self.best_accuracy = state.step, state.rows, state.best
        self.seconds = state.seconds
        try:
            self.phase.module.load_state_dict(_part(state, "module."))
        except RuntimeError as error:
            raise InputError(
                f"the checkpoint of phase {self.phase.name} does not fit the network ({error})",
                hint="Start anew without --resume.",
            ) from error
        if state.done:
            return
        self.best = {k: t.to(device) for k, t in _part(state, "best.").items()}
        load_optimizer(self.optimizer, state)
        if self.average is not None:
            self.average.values = {k: t.to(device) for k, t in _part(state, "ema.").items()}
        set_rng(state.tensors)

    def close(self) -> None:
        self.session.runtime.release(self.wrapped)


def _optimizer(phase: Phase, recipe: Recipe) -> torch.optim.Optimizer:
    """Weights decay; norms, biases and scores do not."""
    scores = {id(p) for p in phase.scores}
    weights = [p for p in phase.module.parameters() if p.requires_grad and id(p) not in scores]
    groups: list[dict[str, Any]] = []
    for matrix, decay in ((True, recipe.weight_decay), (False, 0.0)):
        members = [p for p in weights if (p.ndim > 1) == matrix]
        if members:
            groups.append(
                {"params": members, "weight_decay": decay, "rate": phase.learning_rate, "scheduled": True}
            )
    if phase.scores:
        groups.append(
            {"params": list(phase.scores), "weight_decay": 0.0, "rate": phase.score_rate, "scheduled": False}
        )
    if not groups:
        raise InputError("the network has no parameters to train", hint="Is requires_grad False everywhere?")
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=phase.learning_rate, betas=(recipe.momentum, 0.999))
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(groups, lr=phase.learning_rate, momentum=recipe.momentum, nesterov=nesterov)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    odd = [k for k, v in state.items() if not isinstance(v, Tensor)]
    if odd:
        raise DtpEdgeError(
            "is no tensor, so the state cannot be kept",
            where=odd[0],
            hint="Let the network's state_dict hold tensors only (no get_extra_state).",
        )
    return state


def _part(state: PhaseState, prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in state.tensors.items() if k.startswith(prefix)}


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
