"""Cells on Ray: its scheduling, its retries, its object store. The sweep's folder is one that all nodes see.

A node or process that is lost gives its cell back to Ray, which starts it elsewhere; there it goes on from
its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.sweeps.common import Outcome
from dtp_edge.sweeps.engines import Work
from dtp_edge.sweeps.grid import Cell

__all__ = ["OnRay", "import_ray"]

RETRIES = 10  # of a cell whose node or process is lost
_TICK_SECONDS = 1.0


def import_ray() -> Any:
    """Return the package. Raises `InputError` where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "Ray is not installed", where="--ray", hint='pip install "dtp-edge[sweep]"'
        ) from error
    return ray


@dataclass(frozen=True)
class OnRay:
    """`address` is that of a cluster ("auto", "local", HOST:PORT); cores and GPUs are asked for each cell."""

    address: str
    cores: int
    gpus: float = 0.0

    def run(self, work: Work) -> Iterator[tuple[str, Outcome] | None]:
        ray = import_ray()
        began = not ray.is_initialized()
        if began:
            try:
                ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"no Ray cluster answers: {error}",
                    where="--ray",
                    hint="Start one with `ray start --head`.",
                ) from error
        try:
            yield from self._outcomes(ray, work)
        finally:
            if began:
                ray.shutdown()

    def _outcomes(self, ray: Any, work: Work) -> Iterator[tuple[str, Outcome] | None]:
        job = ray.remote(num_cpus=self.cores, num_gpus=self.gpus, max_retries=RETRIES)(_job)
        shared, running, by_id = ray.put(work), {}, {}
        for cell in work.cells:
            task = job.remote(shared, cell, by_id.get(cell.parent))  # Ray runs it when its parent has ended
            by_id[cell.id] = task
            running[task] = cell
        try:
            while running:
                ready, _ = ray.wait(list(running), timeout=_TICK_SECONDS)
                yield None
                for task in ready:
                    yield running.pop(task).id, _outcome(ray, task)
        finally:
            for task in running:
                ray.cancel(task)


def _job(work: Work, cell: Cell, parent: Outcome | None) -> Outcome:
    """One cell in one of Ray's processes."""
    return work.common().run(cell, deadline=work.deadline)


def _outcome(ray: Any, task: Any) -> Outcome:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:  # lost more often than it is retried, or cannot be pickled
        return {"state": "failed", "reason": f"Ray: {str(error).strip().splitlines()[-1]}"}
