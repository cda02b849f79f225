"""What the cells of a sweep have in common: the trace, once a process; what is dense, once a sweep."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dtp_edge.cost import NetworkCost
from dtp_edge.errors import DtpEdgeError, Interrupted
from dtp_edge.graph.arguments import ExampleInputs, example_arguments
from dtp_edge.graph.part import inside
from dtp_edge.graph.trace import as_in_a_plain_process
from dtp_edge.measure import is_this_machine
from dtp_edge.profiles import Profile
from dtp_edge.profiles.profile import read_profile
from dtp_edge.run.delivery import export_dense
from dtp_edge.run.options import Listener, Options
from dtp_edge.run.pipeline import prune_task, seeded
from dtp_edge.run.result import PruneResult
from dtp_edge.run.task import Task
from dtp_edge.run.traced import traced_for
from dtp_edge.run.warm_start import WarmStart, require_masks
from dtp_edge.sweeps.cell_folder import (
    CHECKPOINT,
    Progressed,
    cell_folder,
    checkpoint_run,
    held,
    outcome_of,
    write_outcome,
)
from dtp_edge.sweeps.grid import Cell, Grid
from dtp_edge.sweeps.planning import refusal

if TYPE_CHECKING:
    from dtp_edge.training import Recipe

__all__ = ["SHARED", "Common", "Maker", "Outcome", "Subject", "failed", "profile_path"]

SHARED = "shared"
_ACCURACY = (
    "base", "control", "pruned", "int8", "n_test", "metric", "unit", "decimals", "higher_is_better",
    "intervals",
)  # fmt: skip
Outcome = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is swept over: a network, its inputs, and the options that all cells have in common."""

    model: nn.Module
    example_inputs: ExampleInputs
    options: Options


Maker = Callable[[], Subject]  # pickled to the processes and machines that run cells


def profile_path(folder: Path, device: str) -> Path:
    """Return where a sweep keeps the profile of a device: "host" is the machine that began the sweep."""
    return folder / SHARED / "devices" / f"{device}.json"


class Common:
    """The traced network, in which one cell after another is trained; each begins with the user's weights."""

    def __init__(self, subject: Subject, grid: Grid, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.options, self.grid, self.folder = subject.options, grid, folder
        inputs = example_arguments(subject.model, subject.example_inputs)
        with seeded(self.options.seed), as_in_a_plain_process(subject.model):
            self.traced = traced_for(
                subject.model,
                inputs,
                self.options.exclude,
                depth=self.options.drops_branches,
                part=self.options.part,
            )
        self._weights = {k: t.detach().clone() for k, t in self._learning().state_dict().items()}

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """The profile of every device, as the sweep's folder holds it."""
        return {name: read_profile(profile_path(self.folder, name)) for name in self.grid.devices}

    @cached_property
    def _costs(self) -> dict[str, NetworkCost]:
        """The cost on every device that can cost this network: a cell is priced on all of them."""
        found = {}
        for name, profile in self.profiles.items():
            try:
                found[name] = NetworkCost(self.traced.network.layers, profile, planner=self.options.planner())
            except DtpEdgeError:  # its cells are refused, and say so
                continue
        return found

    def share(self, listener: Listener, length: float = 1.0) -> None:
        """Train base and control of every recipe, and export the dense network, where that is not done.

        The control is trained for `length` of the recipe's steps, as the cells are.
        """
        from dtp_edge.training import check_compatible, train_shared

        options, network, whole = self.options, self.traced.network, self.traced.whole
        shared = self.folder / SHARED
        if any(is_this_machine(profile) for profile in self.profiles.values()) and options.measure:
            listener.begin("exporting the dense network")
            self._begin_anew()
            export_dense(network, shared)
        if options.data is None:
            return
        aim = options.aim()
        inputs = network.example_inputs if whole is None else whole.example_inputs
        check_compatible(options.data, self._learning(), inputs, aim)
        for name in self.grid.recipes:
            recipe = self.grid.recipe(
                Cell("", "", 0, options.budget, name, length=length), options.schedule(network)
            )
            if recipe is None:
                continue
            self._begin_anew()
            with seeded(options.seed), as_in_a_plain_process(network.module):
                train_shared(
                    network.module, options.data, recipe, shared, weights=self.traced.sha256,
                    progress=listener.progress, seed=options.seed, objective=aim, host=whole,
                )  # fmt: skip

    def run(self, cell: Cell, *, deadline: float | None = None, also: Any = None) -> Outcome:
        """Run a cell, or go on with it, and return how it ended; one that ended well before stays as it is.

        Nothing that happens in a cell ends the others: whatever it raises is its outcome. `deadline` is in
        seconds of `time.time`. Raises `Interrupted` where the user stops the sweep.
        """
        folder, began = cell_folder(self.folder, cell.id), time.time()
        try:
            with held(folder):
                before = outcome_of(folder)
                if before.get("state") == "done" and before["length"] >= cell.length:
                    return before
                if deadline is not None and began > deadline:
                    return {"state": "stopped", "reason": "the time was over before it began"}
                outcome = self._ended(cell, folder, Progressed(folder, deadline, also))
                if before.get("state") == "done" and outcome["state"] != "done":
                    return before  # of a shorter schedule
                write_outcome(folder, outcome)
                return outcome
        except (DtpEdgeError, OSError) as error:  # of the folder itself
            if isinstance(error, Interrupted):
                raise
            return failed(error)

    def _ended(self, cell: Cell, folder: Path, progress: Progressed) -> Outcome:
        began, went_on = time.monotonic(), self._was_begun(cell, folder)
        try:
            result = self._pruned(cell, folder, progress)
        except (Interrupted, KeyboardInterrupt) as stop:
            if progress.deadline is None or time.time() <= progress.deadline:
                raise
            return {"state": "stopped", "reason": f"the time was over: {stop}"}
        except Exception as error:
            return failed(error)
        took = {"seconds": time.monotonic() - began, "went_on": went_on, "length": cell.length}
        return {"state": "done"} | took | self._figures(result)

    def _pruned(self, cell: Cell, folder: Path, progress: Progressed) -> PruneResult:
        options = replace(
            self.options,
            budget=cell.budget,
            device=self.profiles[cell.device],
            recipe=self._recipe(cell),
            out=folder,
            resume=self._was_begun(cell, folder),
            force=True,
            shared=self.folder / SHARED,
            warm=self._warm_start(cell),
        )
        self._begin_anew()
        task = Task.of_traced(self.traced, options.profile(), cell.budget, options.planner())
        module = task.network.module
        with seeded(options.seed), as_in_a_plain_process(module):
            listener = Listener(progress, progress.stage)
            return prune_task(task, options, listener, started=time.monotonic())

    def _recipe(self, cell: Cell) -> Recipe | None:
        return self.grid.recipe(
            cell, None if self.options.data is None else self.options.schedule(self.traced.network)
        )

    def require_masks(self) -> None:
        """Raise `InputError` where a recipe learns no masks, which a warm start begins with."""
        if self.options.data is None:
            return
        for name in self.grid.recipes:
            recipe = self._recipe(Cell("", "", 0, self.options.budget, name))
            if recipe is not None:
                require_masks(recipe, f"recipe {name}")

    def _was_begun(self, cell: Cell, folder: Path) -> bool:
        """Return whether the cell has a checkpoint of this length of its recipe."""
        recipe, run = self._recipe(cell), checkpoint_run(folder)
        if recipe is None or not run:
            return False
        return all(
            run["recipe"].get(name) == getattr(recipe, name) for name in ("mask_epochs", "tune_epochs")
        )

    def _warm_start(self, cell: Cell) -> WarmStart | None:
        """Return what the cell begins with; None if it begins anew, as its looser cell did not end well."""
        if cell.parent is None or self.options.data is None:
            return None
        folder = cell_folder(self.folder, cell.parent)
        parent = outcome_of(folder)
        if parent.get("state") != "done":
            return None
        return WarmStart(folder / CHECKPOINT, parent["limits"])

    def _figures(self, result: PruneResult) -> Outcome:
        """Return what the table of the sweep says of a finished cell."""
        report = result.report
        budgets = {row["metric"]: row for row in report["budgets"]}
        whole = self.traced.whole
        masked = result.masked if whole is None else inside(whole.inside(result.masked))
        sizes = self.traced.network.layers.sizes(np.asarray(masked.get_buffer("mask").double()))
        accuracy = report["accuracy"] or {}
        return {
            "limits": {m: row["limit"] for m, row in budgets.items() if row["limit"] is not None},
            "predicted": {m: row["pruned_predicted"] for m, row in budgets.items()},
            "measured_ms": budgets.get("latency_ms", {}).get("pruned_measured"),
            "on_devices": {name: cost.evaluate(sizes) for name, cost in self._costs.items()},
            "accuracy": {key: accuracy.get(key) for key in _ACCURACY},
            "kept": sum(kept for kept, _ in result.widths.values()),
            "channels": sum(total for _, total in result.widths.values()),
            "warnings": result.warnings,
        }

    def _learning(self) -> nn.Module:
        """Return what learns and is judged: the network, or the whole around it with it in its place."""
        whole, module = self.traced.whole, self.traced.network.module
        return module if whole is None else whole.put(module)

    def _begin_anew(self) -> None:
        """Put the user's weights back, whatever the last cell left."""
        from dtp_edge.training.runtime import move

        module = move(self._learning(), "cpu").eval()
        with torch.no_grad():
            for name, tensor in module.state_dict().items():
                tensor.copy_(self._weights[name])
        for parameter in module.parameters():
            parameter.grad = None


def failed(error: BaseException) -> Outcome:
    """Return the outcome of a cell that an error ended; of one that is not ours with where it came from."""
    if isinstance(error, DtpEdgeError):
        return refusal(error, "failed")
    trace = "".join(traceback.format_exception(error))[-4000:]
    return {"state": "failed", "reason": f"{type(error).__name__}: {error}", "hint": None, "trace": trace}
