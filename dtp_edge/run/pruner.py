"""TransportPruner: pruning inside the user's own training loop."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.transport import Budget, MaskLearner

if TYPE_CHECKING:
    from dtp_edge.profiles import Profile
    from dtp_edge.run.result import PruneResult

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
    - `example_inputs`: a tensor or tuple of tensors, batch first.
    - `device`: a shipped profile's name, a path to a profile, a `Profile`, or "host" (this machine).
    - `budget`: a `Budget`; all of it must hold.
    - `total_steps`: how many times the loop calls `step()`.
    - `mask_share`: part of these steps in which masks are learned; in the rest they are hard and the
      kept channels are tuned.
    - `exclude`: names of modules to leave whole.
    - further options: those of `transport.MaskLearner`.

    **Raises:** `UnsupportedError` (cannot be traced), `InputError`, `BudgetError` (before any training).
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: torch.Tensor | tuple[Any, ...],
        *,
        device: str | Path | Profile = "host",
        budget: Budget,
        total_steps: int,
        mask_share: float = 0.6,
        exclude: Sequence[str] = (),
        **options: Any,
    ) -> None:
        from dtp_edge.graph import trace_network
        from dtp_edge.measure import load_profile
        from dtp_edge.run.task import Task

        if total_steps < 1 or not 0 < mask_share <= 1:
            raise InputError(
                f"total_steps {total_steps} and mask_share {mask_share} leave nothing to learn.",
                hint="Give total_steps of at least 1 and a mask_share above 0 and at most 1.",
            )
        inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
        network = trace_network(copy.deepcopy(model), inputs, exclude=exclude)
        task = Task.of(network, load_profile(device), budget).require_feasible()
        steps = max(1, round(mask_share * total_steps))
        keep = task.layer_keep or None
        super().__init__(network, task.cost, task.limits, steps, layer_keep=keep, **options)
        self.task = task
        self.budget = budget

    def finish(self, out: str | Path | None = None) -> PruneResult:
        """Cut the network to the learned widths, prove it, export it and report.

        May be called before `total_steps`; masks are then hardened as they stand. `out=None` writes nothing.

        **Raises:** `CheckError` if a proof fails (nothing that looks finished is left in `out`), `InputError`
        if training left weights that are not finite.
        """
        from dtp_edge.run.pipeline import RunContext, finish_task

        context = RunContext(budget=self.budget, model_name=type(self.module).__name__)
        return finish_task(self.task, self.harden(), out=out, context=context)
