"""Cells on Ray: its scheduling, its retries, its object store. The sweep's folder is one that all nodes see.

A node or process that is lost gives its cell back to Ray, which starts it elsewhere; there it goes on from
its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from dtp_edge.errors import InputError
from dtp_edge.sweeps.common import Outcome
from dtp_edge.sweeps.engines import Work
from dtp_edge.sweeps.grid import Cell

__all__ = ["RETRIES", "OnRay", "connected"]

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


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a cluster in the block, unless this process is in one already. Raises `InputError`."""
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        hint = "Start one with `ray start --head`, or give --ray local."
        raise InputError(f"no Ray cluster answers: {error}", where="--ray", hint=hint) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class OnRay:
    """`address` is that of a cluster ("auto", "local", HOST:PORT); cores and GPUs are asked for each cell."""

    first_length: ClassVar[float] = 1.0

    address: str
    cores: int
    gpus: float = 0.0

    def run(self, work: Work) -> Iterator[tuple[str, Outcome] | None]:
        with connected(self.address) as ray:
            yield from self.outcomes(ray, work)

    def outcomes(self, ray: Any, work: Work) -> Iterator[tuple[str, Outcome] | None]:
        """Yield what `run` does, in a cluster that is connected already."""
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
