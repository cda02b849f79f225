"""One phase of training: the same loop for the dense base, the masks, the fine-tune and the control."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dtp_edge.errors import DtpEdgeError, InputError, Interrupted
from dtp_edge.training.checkpoint import PhaseState
from dtp_edge.training.data.source import Batch, _mix, batches_per_epoch
from dtp_edge.training.ema import Average
from dtp_edge.training.evaluate import evaluate
from dtp_edge.training.feed import line_of
from dtp_edge.training.layout import arrange_weights
from dtp_edge.training.loss import training_loss
from dtp_edge.training.objectives import nests
from dtp_edge.training.optimizer import make_optimizer
from dtp_edge.training.phase import Phase, Row, Session, held_out
from dtp_edge.training.recovery import Parts, Recovery, named
from dtp_edge.training.runtime import move
from dtp_edge.training.subnormals import flushed

_MAX_ROWS = 2000  # of a phase's curve: it is part of every checkpoint


def run_phase(phase: Phase, session: Session) -> list[Row]:
    """Train a phase, or continue it, or restore it if it was done before; returns its curve.

    The curve has a row a step, of long phases every n-th and those at the end of an epoch. A loss that is no
    longer finite is gone back from (`recovery`); the session's warnings and the next row say so.

    Raises `InputError` when the loss does not stay finite, `Interrupted` (after a checkpoint) on Ctrl-C.
    """
    loop = _Loop(phase, session)
    found = loop.store.load(phase.name) if loop.store else None
    try:
        if found is not None:
            loop.restore(found)
        if found is None or not found.done:
            with flushed(session.runtime.device):
                loop.run()
    except KeyboardInterrupt as stop:
        loop.save(done=False)
        raise Interrupted(
            f"interrupted in phase {phase.name} at step {loop.step} of {phase.steps}",
            hint="Continue with --resume." if loop.store else None,
        ) from stop
    finally:
        loop.close()
    session.seconds[phase.name] = loop.seconds
    session.curves.extend(loop.rows)
    session.warnings.extend(loop.warnings())
    return loop.rows


class _Loop:
    """The moving parts of a phase: what a checkpoint has to hold."""

    def __init__(self, phase: Phase, session: Session) -> None:
        self.phase, self.session, self.recipe = phase, session, session.recipe
        self.feed, self.objective = session.feed, session.feed.objective
        self.step, self.rows, self.seconds = 0, [], 0.0
        self.best_accuracy: float | None = None
        self.best: dict[str, Tensor] = {}
        runtime = session.runtime
        self.store = session.store_of(phase.name)
        move(phase.module, runtime.device)
        arrange_weights(phase.module, self.recipe.channels_last, runtime.device)
        self.teacher = phase.teacher
        if self.teacher is not None:
            move(self.teacher, runtime.device).eval()
        optimizer = make_optimizer(
            phase.module, self.recipe, phase.learning_rate, phase.scores, phase.score_rate
        )
        self.wrapped, self.optimizer = runtime.prepare(phase.module, optimizer)
        self.average = Average(phase.module, session.recipe.ema) if session.recipe.ema else None
        torch.manual_seed(_mix(session.recipe.seed, *phase.name.encode()))
        self.parts = Parts(phase.module, self.optimizer, self.average)
        self.recovery = Recovery(self.parts)
        self._began = self._saved = time.monotonic()

    def run(self) -> None:
        self.phase.module.train()
        self._began = time.monotonic() - self.seconds
        if self.step == 0 and self.phase.keep_best:
            self._score()  # a phase that does harm leaves what it began with
        self._score_if_due()
        agreed = self.session.runtime.agreed
        while self.step < self.phase.steps:
            for batch in self._rest_of_epoch():
                row = self._train_step(batch)
                sound = row is not None and (not self._at_epoch_end() or agreed(self.recovery.healthy()))
                if row is None or not sound:
                    self._go_back()
                    break
                self._note(row)
        self._keep_best()
        self.session.runtime.agree(self.phase.module)
        self.save(done=True)

    def _train_step(self, batch: Batch) -> Row | None:
        """The step's numbers; None if the loss or a score is not finite, and then nothing was counted."""
        phase, recipe, runtime = self.phase, self.recipe, self.session.runtime
        factor = recipe.rate(self.step, phase.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * (factor if group["scheduled"] else 1.0) * self.recovery.rate
        total, quick = self._gradients(batch)
        if not self.session.runtime.agreed(math.isfinite(total)):
            return None
        if recipe.gradient_clip is not None:
            runtime.clip(self.wrapped, recipe.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not all(bool(torch.isfinite(scores).all()) for scores in phase.scores):
            return None  # the same in every process: gradients were exchanged
        self.step += 1
        row: Row = {"phase": phase.name, "step": self.step, "loss": total}
        if quick is not None:
            row["accuracy"] = quick
        row["learning_rate"] = factor * phase.learning_rate * self.recovery.rate
        if phase.after_step is not None:
            row.update(phase.after_step())
        if self.average is not None:
            self.average.update(phase.module)
        return row

    def _gradients(self, batch: Batch) -> tuple[float, float | None]:
        """Backward through a batch in parts; its mean loss, and its headline where that is had in passing."""
        recipe, runtime, objective = self.recipe, self.session.runtime, self.objective
        batch = nests.moved(batch, runtime.device)
        parts, size = objective.parts(batch, recipe.accumulate), objective.size(batch)
        total, seen = 0.0, []
        for i, part in enumerate(parts):
            with runtime.no_sync(self.wrapped, skip=i < len(parts) - 1):
                with runtime.autocast():
                    outputs, teacher = self.feed.run(self.wrapped, part), self._teacher_outputs(part)
                loss = training_loss(outputs, part, teacher, recipe, self.feed)
                apart = self.phase.blocks.loss() if self.phase.blocks is not None else None
                if apart is not None:
                    loss = loss + (recipe.block_distill or 0.0) * apart
                loss = loss * (objective.size(part) / size)
                runtime.backward(loss)
            total += float(loss.detach())
            seen.append(objective.quick(outputs, part))
        known = [value for value in seen if value is not None]
        return total, sum(known) / size if len(known) == len(parts) else None

    def _note(self, row: Row) -> None:
        """What follows a good step: curve, good state and score at an epoch's end, progress, checkpoint."""
        backs = self.recovery.backs
        if backs and backs[-1][1] == self.step - 1:
            row["went_back_from"] = backs[-1][0]
        self.seconds = time.monotonic() - self._began
        if self.step % self._stride == 0 or self._at_epoch_end() or "went_back_from" in row:
            self.rows.append(row)
        if self._at_epoch_end():
            self.recovery.keep(self.step)
            self.save(done=False)  # scoring can take minutes: no step is lost by a kill meanwhile
            self._score_if_due()
        self.seconds = time.monotonic() - self._began
        if self.session.progress is not None and self.session.runtime.main:
            self.session.progress(self.phase.name, self.step, self.phase.steps, row)
        if time.monotonic() - self._saved > self.session.checkpoint_seconds and self.step < self.phase.steps:
            self.save(done=False)
            self._saved = time.monotonic()

    def _go_back(self) -> None:
        """Put the last good state back, with half the learning rate: all processes do so at the same step."""
        self.optimizer.zero_grad()
        step, backs = self.step, len(self.recovery.backs)
        found = self.recovery.go_back(step)
        if found is None:
            rate = f"{self.phase.learning_rate * self.recovery.rate:.2g}"
            tried = f", gone back {backs} times and with the learning rate halved to {rate}" if backs else ""
            raise InputError(
                f"the loss is no longer finite in phase {self.phase.name} at step {step}{tried}",
                where=line_of(type(self.objective).loss) if step == 0 else None,
                hint="Lower the learning rate, or check the data for broken samples.",
            )
        self.step, self.rows = found, [row for row in self.rows if row["step"] <= found]
        self.save(done=False)

    def warnings(self) -> list[str]:
        """A sentence for every time that the phase went back."""
        return self.recovery.told(self.phase.name, self.phase.learning_rate)

    def _teacher_outputs(self, batch: Batch) -> Any:
        wanted = self.recipe.distill or self.phase.blocks is not None or not self.objective.labelled
        if self.teacher is None or not wanted:
            return None
        with torch.no_grad():
            return self.feed.run(self.teacher, batch)

    def _rest_of_epoch(self) -> Iterator[Batch]:
        """The batches from `self.step` to the end of its epoch, or of the phase."""
        session, recipe = self.session, self.recipe
        epoch, start = divmod(self.step, self._per_epoch)
        batches = session.data.train.shuffled(
            recipe.batch_size,
            seed=_mix(recipe.seed, *self.phase.name.encode()),
            epoch=epoch,
            start=start,
            rank=session.runtime.rank,
            world=session.runtime.world,
        )
        return itertools.islice(batches, self.phase.steps - self.step)

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
        key = held_out(self.objective)
        if key not in self.rows[-1]:
            self.rows[-1][key] = self._score()

    def _score(self) -> float:
        module, runtime = self.phase.module, self.session.runtime
        with self.average.swapped_in(module) if self.average else nullcontext():
            runtime.agree(module)
            accuracy = evaluate(
                module, self.session.data.holdout, self.session.score_batch, runtime, self.feed,
                self.session.judge,
            )  # fmt: skip
            if self.phase.keep_best and self.objective.headline.better(accuracy, self.best_accuracy):
                self.best_accuracy = accuracy
                self.best = {k: t.detach().clone() for k, t in module.state_dict().items()}
        return accuracy

    def _keep_best(self) -> None:
        if self.best:
            self.phase.module.load_state_dict(self.best)
        elif self.average is not None:
            self.average.copy_into(self.phase.module)

    def save(self, done: bool) -> None:
        if self.store is None:
            return
        state = {k: v for k, v in self.parts.read().items() if not done or k.startswith("module.")}
        odd = next((k for k in named("module.", state) if not isinstance(state[f"module.{k}"], Tensor)), None)
        if odd is not None:
            raise DtpEdgeError(
                "is not a tensor, so the state cannot be saved",
                where=odd,
                hint="Let the network's state_dict hold tensors only (no get_extra_state).",
            )
        good = 0
        if not done:
            good, kept = self.recovery.to_store(self.step)
            state |= kept | {f"best.{k}": t for k, t in self.best.items()}
        tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
        numbers = {k: v for k, v in state.items() if k not in tensors}
        self.store.save(
            self.phase.name,
            PhaseState(
                self.step, done, tensors, self.rows, self.best_accuracy, self.seconds, numbers,
                good, self.recovery.backs,
            ),
        )  # fmt: skip

    def restore(self, found: PhaseState) -> None:
        device = self.session.runtime.device
        self.step, self.rows, self.best_accuracy = found.step, found.rows, found.best
        self.seconds = found.seconds
        state = {**found.tensors, **found.scalars}
        try:
            self.phase.module.load_state_dict(named("module.", state))
        except RuntimeError as error:
            raise InputError(
                f"the checkpoint of phase {self.phase.name} does not fit the network ({error})",
                hint="Start again without --resume.",
            ) from error
        backs = [(step, to) for step, to in found.backs]
        if found.done:
            self.recovery.backs = backs
            return
        self.best = {k: t.to(device) for k, t in named("best.", state).items()}
        self.parts.put(state)
        self.recovery.restore(found.good, self.step, state, backs)

    def close(self) -> None:
        self.session.runtime.release(self.wrapped)
