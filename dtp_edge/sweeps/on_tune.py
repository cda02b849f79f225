"""Cells on Ray within a time: all of them at a ninth of their schedule, then ASHA decides which go on.

Masks are learned for a number of steps that is fixed beforehand, so a cell has no result half-way. Its rungs
are schedules of a ninth, a third and the whole, each run anew; the last one that has ended is in the table.
After the first the front is whole; from there Ray Tune's ASHA (Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020) lets the best third go on: best is what a cell adds to the front of its
device, its accuracy less the best of those that are at least as fast.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dtp_edge.report import front_gain
from dtp_edge.run.options import NOBODY
from dtp_edge.sweeps.cell_folder import cell_folder, outcome_of
from dtp_edge.sweeps.common import Outcome
from dtp_edge.sweeps.engines import Work
from dtp_edge.sweeps.grid import Cell
from dtp_edge.sweeps.on_ray import RETRIES, OnRay, connected

__all__ = ["OnTune"]

HALVING = 3
RUNGS = (1, 3, 9)  # ninths of a schedule
_TICK_SECONDS = 1.0


@dataclass(frozen=True)
class OnTune:
    """As `OnRay`, within `work.deadline`."""

    first_length: ClassVar[float] = RUNGS[0] / RUNGS[-1]

    on_ray: OnRay

    def run(self, work: Work) -> Iterator[tuple[str, Outcome] | None]:
        with connected(self.on_ray.address) as ray:
            first = [replace(cell, length=self.first_length, parent=None) for cell in work.cells]
            found: dict[str, Outcome] = {}
            for ended in self.on_ray.outcomes(ray, replace(work, cells=first)):
                found |= {} if ended is None else dict([ended])
                yield ended
            left = [cell for cell in work.cells if found[cell.id]["state"] == "done"]
            if work.deadline is None or time.time() < work.deadline:
                yield from self._refined(ray, replace(work, cells=left), found)

    def _refined(
        self, ray: Any, work: Work, found: dict[str, Outcome]
    ) -> Iterator[tuple[str, Outcome] | None]:
        """Let Tune run the further rungs; yield each cell again when it has ended one."""
        faults: list[BaseException] = []

        def fit() -> None:
            try:
                _tuner(ray, work, self.on_ray.cores, self.on_ray.gpus).fit()
            except Exception as error:
                faults.append(error)

        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_TICK_SECONDS)
            yield None
            for cell in work.cells:
                now = outcome_of(cell_folder(work.folder, cell.id))
                if now and now.get("length") != found[cell.id].get("length"):
                    found[cell.id] = now
                    yield cell.id, now
        if faults:
            raise faults[0]


def _tuner(ray: Any, work: Work, cores: int, gpus: float) -> Any:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    scheduler = ASHAScheduler(
        time_attr="ninths", metric="gain", mode="max", max_t=RUNGS[-1], grace_period=RUNGS[0],
        reduction_factor=HALVING,
    )  # fmt: skip
    left = None if work.deadline is None else max(1.0, work.deadline - time.time())
    shared = ray.put(work)
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, shared=[shared]), {"cpu": cores, "gpu": gpus}),
        param_space={"number": tune.grid_search(list(range(len(work.cells))))},
        tune_config=tune.TuneConfig(scheduler=scheduler, time_budget_s=left),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(work.folder.absolute() / "shared"),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )


def _trial(config: dict[str, Any], shared: list[Any]) -> None:
    """One cell in one of Tune's processes: a rung, a report, and the next one if ASHA lets it."""
    import ray
    from ray import tune

    work: Work = ray.get(shared[0])
    cell = work.cells[config["number"]]
    common = work.common()
    for ninths in RUNGS:
        length = ninths / RUNGS[-1]
        if ninths != RUNGS[0]:
            common.share(NOBODY, length)
        outcome = common.run(replace(cell, length=length, parent=None), deadline=work.deadline)
        if outcome["state"] != "done" or outcome["length"] < length:
            return
        tune.report({"ninths": ninths, "gain": _gain(work, cell, outcome)})


def _gain(work: Work, cell: Cell, outcome: Outcome) -> float:
    """Return what the cell adds to the front of its device as that is now."""
    others = [outcome_of(cell_folder(work.folder, c.id)) for c in work.cells if c.device == cell.device]
    return front_gain(outcome, [other for other in others if other.get("state") == "done"])
