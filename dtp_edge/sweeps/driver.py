"""dtp.sweep(): plan, share, run, show. The one process that hands out cells and keeps the table."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dtp_edge.errors import BudgetError, DtpEdgeError, InputError, Interrupted
from dtp_edge.files import write_text
from dtp_edge.graph.arguments import ExampleInputs
from dtp_edge.measure import load_profile
from dtp_edge.profiles import Profile
from dtp_edge.report import SWEEP_JSON
from dtp_edge.run.options import Listener, Options, aim_of, source_of
from dtp_edge.run.outputs import refuse_finished
from dtp_edge.sweeps.cell_folder import cell_folder, forget_progress
from dtp_edge.sweeps.common import Common, Maker, Subject, profile_path
from dtp_edge.sweeps.engines import Engine, InTurn, Work
from dtp_edge.sweeps.grid import USUAL, Cell, Grid
from dtp_edge.sweeps.ledger import Ledger, device_rows
from dtp_edge.sweeps.planning import Planned, plan_cells
from dtp_edge.sweeps.sweep_result import SweepResult
from dtp_edge.transport import Budget

if TYPE_CHECKING:
    from dtp_edge.training import DataSource, Objective, Recipe

__all__ = ["How", "plan_sweep", "run_sweep", "sweep"]


@dataclass(frozen=True)
class How:
    """How the cells are run. `jobs` local processes, or `ray`'s cluster; `cores` and `gpus` for each cell.

    `within_seconds` ends the sweep; `warm` lets the looser cell's masks and weights begin the tighter one.
    """

    jobs: int = 1
    ray: str | None = None
    cores: int | None = None
    gpus: float = 0.0
    within_seconds: float | None = None
    warm: bool = False
    resume: bool = False
    force: bool = False

    @property
    def threads(self) -> int:
        """Threads of a cell: a cell's result depends on their number, not on where they are."""
        if self.cores is not None:
            return self.cores
        return 1 if self.ray else max(1, (os.cpu_count() or 1) // max(1, self.jobs))


def sweep(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    devices: Sequence[str | Path | Profile],
    budgets: Sequence[Budget],
    out: str | Path,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    data: DataSource | str | None = None,
    objective: Objective | str | None = None,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    seed: int = 0,
    exclude: Sequence[str] = (),
    depth: bool | None = None,
    part: str | None = None,
    int8: bool = False,
    dynamic_batch: bool = False,
    jobs: int = 1,
    ray: str | None = None,
    cores: int | None = None,
    gpus: float = 0.0,
    within_seconds: float | None = None,
    warm: bool = False,
    resume: bool = False,
    force: bool = False,
) -> SweepResult:
    """Prune `model` for every device, budget and recipe; what they have in common is done once.

    **Arguments:** those of `prune_for_device` that are not listed are the same here.

    - `devices`, `budgets`, `recipes`: the axes of the grid. A recipe is a name with what it changes of
      `recipe`: `{"long": {"epochs": 20}}`; without any there is one.
    - `out`: gets `sweep.html`, `sweep.json` and a folder for each cell in `cells/`, all while it runs.
    - `jobs`: that many processes of this machine; `ray`: the address of a Ray cluster that sees `out`.
    - `cores`, `gpus`: of each cell; its result depends on the number of its threads, not on where it ran.
    - `within_seconds`: cells that are not done by then are stopped, resumable.
    - `warm`: a cell begins with masks and weights of the next looser one.

    A cell that fails is a row that says why; the others are run.

    **Raises:** `InputError`, `UnsupportedError`, `BudgetError` if no cell can be had.
    """
    profiles = [load_profile(device) for device in devices]
    grid = Grid(tuple(p.name for p in profiles), tuple(budgets), dict(recipes or {USUAL: {}}))
    source = source_of(data)
    options = Options(
        budget=budgets[0],
        data=source,
        objective=aim_of(objective, source),
        recipe=recipe,
        epochs=epochs,
        seed=seed,
        exclude=tuple(exclude),
        depth=depth,
        part=part,
        int8=int8,
        dynamic_batch=dynamic_batch,
    )
    make = partial(_given, Subject(model, example_inputs, options))
    how = How(jobs, ray, cores, gpus, within_seconds, warm, resume, force)
    return run_sweep(make, grid, profiles, Path(out), how)


def _given(subject: Subject) -> Subject:
    return subject


def run_sweep(
    make: Maker, grid: Grid, profiles: Sequence[Profile], out: Path, how: How, listener: Any = None
) -> SweepResult:
    """Run a sweep; `make` gives what it is about, here and in every process that runs cells.

    `listener` is told every step of what runs in this process: `progress(phase, done, total, info)`, and
    `progress.stage(text)`.
    """
    _refuse(out, how)
    by_name = _written_profiles(profiles, out)
    before = torch.get_num_threads()
    try:
        subject = make()
        common = Common(subject, grid, out, how.threads)
        if how.warm:
            common.require_masks()
        planned = plan_cells(common.traced, by_name, grid, subject.options, warm=how.warm)
        ledger = Ledger(out, _head(common, by_name, how), planned.rows)
        if how.resume and (out / SWEEP_JSON).is_file():
            ledger.take_over()
        if not planned.cells:
            ledger.write("done")
            raise _nothing(planned, out)
        _run(Work(planned.cells, make, grid, out, how.threads, _deadline(how)), common, ledger, how, listener)
    finally:
        torch.set_num_threads(before)
    return SweepResult.of(list(ledger.rows.values()), out)


def plan_sweep(make: Maker, grid: Grid, profiles: Sequence[Profile]) -> Planned:
    """Price every cell and run none; nothing is written."""
    subject = make()
    common = Common(subject, grid, Path(), torch.get_num_threads())
    return plan_cells(common.traced, {p.name: p for p in profiles}, grid, subject.options)


def _run(work: Work, common: Common, ledger: Ledger, how: How, listener: Any) -> None:
    """Share, run the cells that are left, and keep the table whatever happens."""
    show = _Shown(ledger, listener)
    open_ids = ledger.open_ids()
    for name in open_ids:
        forget_progress(cell_folder(work.folder, name))  # of a driver that was killed
    work = Work(
        [cell for cell in work.cells if cell.id in open_ids],
        work.make, work.grid, work.folder, work.threads, work.deadline,
    )  # fmt: skip
    state, engine = "stopped", _engine(how, common, show)
    try:
        ledger.write("running")
        if work.cells:
            common.share(Listener(show, show.stage), engine.first_length)
        for ended in engine.run(work):
            if ended is not None:
                ledger.note(*ended)
            ledger.tick()
        state = "stopped" if any(r["state"] == "stopped" for r in ledger.rows.values()) else "done"
    except KeyboardInterrupt as stop:
        raise Interrupted("stopped", hint=f"{ledger.folder} holds all that was learned.") from stop
    finally:
        ledger.write(state)


def _engine(how: How, common: Common, show: _Shown) -> Engine:
    if how.ray is not None:
        from dtp_edge.sweeps.on_ray import OnRay

        on_ray = OnRay(how.ray, how.threads, how.gpus)
        if how.within_seconds is None or common.options.data is None:
            return on_ray
        from dtp_edge.sweeps.on_tune import OnTune

        return OnTune(on_ray)
    if how.jobs > 1:
        from dtp_edge.sweeps.processes import Processes

        return Processes(how.jobs)
    return InTurn(common, show, show.begins)


class _Shown:
    """Told every step in this process: passes it on, and keeps the page."""

    def __init__(self, ledger: Ledger, listener: Any) -> None:
        self.ledger, self.listener, self.count = ledger, listener, 0

    def __call__(self, phase: str, done: int, total: int, info: Mapping[str, Any]) -> None:
        if self.listener is not None:
            self.listener(phase, done, total, info)
        self.ledger.tick()

    def stage(self, text: str) -> None:
        if self.listener is not None:
            self.listener.stage(text)

    def begins(self, cell: Cell) -> None:
        self.count += 1
        self.stage(f"cell {cell.id}")


def _refuse(out: Path, how: How) -> None:
    if how.jobs < 1 or (how.cores is not None and how.cores < 1) or how.gpus < 0:
        raise InputError("must be above 0", where="jobs, cores or gpus", hint="Leave them out for the usual.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (how.jobs > 1 or how.ray):
        raise InputError(
            "this is one of several processes of one cell already",
            where="jobs",
            hint="Start a sweep with --jobs or --ray by itself, without torchrun or accelerate.",
        )
    refuse_finished(out, force=True)
    if (out / SWEEP_JSON).exists() and not (how.resume or how.force):
        raise InputError(
            "holds a sweep already", where=str(out), hint="Go on with --resume, replace it with --force."
        )
    if how.force and not how.resume and (out / "cells").is_dir():
        for path in (out / "cells").glob("*/outcome.json"):
            path.unlink()


def _written_profiles(profiles: Sequence[Profile], out: Path) -> dict[str, Profile]:
    """Write each profile into the sweep's folder, where every process and machine reads the same."""
    for profile in profiles:
        path = profile_path(out, profile.name)
        if not path.is_file():
            write_text(path, json.dumps(profile.document, indent=1))
    return {profile.name: profile for profile in profiles}


def _head(common: Common, profiles: Mapping[str, Profile], how: How) -> dict[str, Any]:
    options = common.options
    return {
        "model": options.origin.model_name or type(common.traced.network.module).__name__,
        "command": options.origin.command,
        "weights_sha256": common.traced.sha256,
        "data": None if options.data is None else options.data.name,
        "seed": options.seed,
        "threads": how.threads,
        "warm": how.warm,
        "within_seconds": how.within_seconds,
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "devices": device_rows(profiles),
        **{key: value for key, value in common.grid.to_json().items() if key != "devices"},
    }


def _deadline(how: How) -> float | None:
    return None if how.within_seconds is None else time.time() + how.within_seconds


def _nothing(planned: Planned, out: Path) -> DtpEdgeError:
    reasons = list(dict.fromkeys(row["reason"] for row in planned.rows))
    return BudgetError(
        f"no cell of the sweep is feasible: {'; '.join(reasons[:3])}",
        hint=f"{out}/sweep.html lists every cell with its reason.",
    )
