"""TransportPruner: pruning inside the user's own training loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.graph.arguments import ExampleInputs, example_arguments, in_order
from dtp_edge.graph.own_copy import floats_in_float32
from dtp_edge.graph.part import Stand
from dtp_edge.profiles import Profile
from dtp_edge.run.options import Options, Origin, source_of
from dtp_edge.run.pipeline import finish, quiet
from dtp_edge.run.proved import Cut
from dtp_edge.run.result import PruneResult
from dtp_edge.run.task import Task
from dtp_edge.transport import Budget, MaskLearner
from dtp_edge.transport.batch_loss import LossFunction

if TYPE_CHECKING:
    from dtp_edge.training import DataSource
    from dtp_edge.training.distil import BlockDistillation

__all__ = ["TransportPruner"]


class TransportPruner(MaskLearner):
    """The network with masks that meet the budget, to be trained like any other `nn.Module`.

        pruner = TransportPruner(model, example_inputs, device=..., budget=..., total_steps=1000)
        optimizer = torch.optim.SGD(pruner.parameters(), lr=0.05)  # or pruner.parameter_groups(...)
        for x, y in loader:
            loss_fn(pruner(x), y).backward()
            optimizer.step(); optimizer.zero_grad()
            pruner.step()
        result = pruner.finish(out="runs/x")

    **Arguments:**

    - `model`: any network that `torch.export` can trace; copied, never changed. `pruner.module` is the copy.
    - `example_inputs`: a tensor or tuple of tensors, batch first; a dict for inputs by keyword.
    - `device`: a shipped profile's name, a path to a profile, a `Profile`, or "host" (this machine).
    - `budget`: a `Budget`; all of it must hold.
    - `total_steps`: how many times the loop calls `step()`.
    - `mask_share`: part of these steps in which masks are learned; in the rest they are hard and the
      kept channels are tuned.
    - `part`: name of the submodule to prune, where the whole cannot be traced. The pruner is then called as
      the whole network is, and trains all of it; `pruner.rest` is the network around the part.
    - `exclude`: names of modules to leave whole; a branch with one of them stays as well.
    - `batches`: a few batches of training data, `(inputs, targets)` each, that scores start from and that
      tell what a branch is worth; `loss(output, targets)` where that is no classification.
    - `depth`: whether whole residual branches may go; None: where there are batches.
    - `int8`: let `finish` write `model.int8.onnx` as well; `data` (a `training.DataSource` or its spec) is
      what it is calibrated and judged on, and is used for nothing else.
    - `dynamic_batch`: export with a free batch size.
    - `scores`: `[n_atoms]` to start from, any scale; None: those of the batches, or else of the weights.
    - further options: those of `transport.MaskLearner`.

    **Raises:** before any training, `UnsupportedError` (cannot be traced or stored), `InputError`,
    `BudgetError`.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: ExampleInputs,
        *,
        device: str | Path | Profile = "host",
        budget: Budget,
        total_steps: int,
        mask_share: float = 0.6,
        part: str | None = None,
        exclude: Sequence[str] = (),
        batches: Iterable[Any] | None = None,
        loss: LossFunction | None = None,
        depth: bool | None = None,
        int8: bool = False,
        data: DataSource | str | None = None,
        dynamic_batch: bool = False,
        scores: np.ndarray | None = None,
        **options: Any,
    ) -> None:
        if total_steps < 1 or not 0 < mask_share <= 1:
            raise InputError(
                f"total_steps {total_steps} and mask_share {mask_share} leave nothing to learn.",
                hint="Give total_steps of at least 1 and a mask_share above 0 and at most 1.",
            )
        chosen = Options(
            budget=budget,
            device=device,
            part=part,
            data=source_of(data),
            exclude=tuple(exclude),
            depth=batches is not None if depth is None else depth,
            int8=int8,
            dynamic_batch=dynamic_batch,
            origin=Origin(model_name=type(model).__name__),
        )
        inputs = example_arguments(model, example_inputs)
        task = Task.trace(model, inputs, chosen).require_deliverable(files=False)
        steps = max(1, round(mask_share * total_steps))
        start = task.learner_arguments(steps, batches=batches, loss=loss, scores=scores)
        super().__init__(**start, **options)
        self.task, self.options, self.rest = task, chosen, None
        if task.whole is not None:
            stand = Stand(self._masked, task.whole.part, len(task.whole.inputs))
            self.rest = task.whole.put(stand)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the masked network, called as it is itself; masks are differentiable until they are hard.

        A network in another precision is trained in float32: its inputs are converted, its outputs are not.
        """
        if self.rest is not None:
            return self.rest(*inputs, **named)
        given = in_order(self.module, *inputs, **named) if named else inputs
        return self._masked(*(floats_in_float32(given) if self.task.precision else given))

    def _masked(self, *inputs: Any) -> Any:
        """Run what is pruned, the whole network or its part, under the masks."""
        return super().forward(*inputs)

    def blocks(self, teacher: nn.Module) -> BlockDistillation | None:
        """Return what compares the outputs of this network's blocks with those of `teacher`, the dense one.

        `teacher` is a network like the one given, not this pruner's own: `model` itself, if the loop leaves
        it alone. After `pruner(x)`, `blocks(x)` is a term for the loss: the squared distance at the channels
        that the masks keep, over the teacher's own square, mean over blocks. None where none compares.
        """
        from dtp_edge.training.distil import BlockDistillation

        return BlockDistillation.of_masked(self.network, self.mask, teacher)

    def finish(self, out: str | Path | None = None) -> PruneResult:
        """Cut the network to the learned widths, prove it, export it and report.

        May be called before `total_steps`; masks are then hardened as they stand. `out=None` writes nothing.

        **Raises:** `CheckError` if a proof fails (nothing that looks finished is left in `out`), `InputError`
        if training left weights that are not finite.
        """
        started = time.monotonic()
        options = replace(self.options, out=None if out is None else Path(out))
        with quiet():
            return finish(Cut.of(self.task, self.harden(), self.branch_rises()), options, started=started)
