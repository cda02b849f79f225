"""Cells in several processes of this machine, its threads divided among them.

A process that dies loses nothing but the steps since its last checkpoint: its cell goes on in another one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar

from dtp_edge.errors import InputError, Interrupted
from dtp_edge.sweeps.common import Outcome, failed
from dtp_edge.sweeps.engines import Work
from dtp_edge.sweeps.grid import Cell

__all__ = ["Processes"]

TRIES = 3  # of a cell whose process dies
_TICK_SECONDS = 1.0
_END_SECONDS = 60.0


@dataclass
class _Worker:
    process: BaseProcess
    line: Connection
    number: int
    cell: Cell | None = None


@dataclass(frozen=True)
class Processes:
    """`jobs` processes; GPUs are handed out in turns, one a process, where the machine has any."""

    first_length: ClassVar[float] = 1.0

    jobs: int

    def run(self, work: Work) -> Iterator[tuple[str, Outcome] | None]:
        waiting, lost = list(work.cells), dict.fromkeys((cell.id for cell in work.cells), 0)
        ended = {c.parent for c in waiting if c.parent} - set(lost)
        workers: list[_Worker] = []
        try:
            while waiting or any(worker.cell for worker in workers):
                self._hand_out(work, workers, waiting, ended)
                ready = wait([w.line for w in workers if w.cell], timeout=_TICK_SECONDS)
                yield None
                for worker in [w for w in workers if w.line in ready and w.cell]:
                    cell, outcome = worker.cell, _received(worker)
                    worker.cell = None
                    if cell is None:
                        continue
                    if outcome is None:
                        workers.remove(worker)
                        lost[cell.id] += 1
                        if lost[cell.id] < TRIES:
                            waiting.insert(0, cell)
                            continue
                        outcome = {"state": "failed", "reason": f"its process died {TRIES} times"}
                    ended.add(cell.id)
                    yield cell.id, outcome
        finally:
            _end(workers)

    def _hand_out(self, work: Work, workers: list[_Worker], waiting: list[Cell], ended: set[str]) -> None:
        """Give each cell that may begin to a process that is free, or to a new one if there may be more."""
        for cell in [c for c in waiting if c.parent is None or c.parent in ended]:
            worker = next((w for w in workers if w.cell is None), None)
            if worker is None and len(workers) < self.jobs:
                free = set(range(self.jobs)) - {w.number for w in workers}
                worker = _start(work, min(free))
                workers.append(worker)
            if worker is None:
                return
            waiting.remove(cell)
            worker.cell = cell
            with suppress(OSError):  # it is dead, which the answer will say
                worker.line.send(cell)


def _start(work: Work, number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")  # forked, torch's threads would be missing
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(work, theirs, number), daemon=True)
    try:
        process.start()
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"the network or its data cannot be handed to another process ({error})",
            where="jobs",
            hint="Give them as FILE.py:CALLABLE to prune-for-device, or run the cells one after another.",
        ) from error
    theirs.close()
    return _Worker(process, ours, number)


def _received(worker: _Worker) -> Outcome | None:
    try:
        found = worker.line.recv()
    except (EOFError, OSError):
        worker.process.join(_END_SECONDS)
        return None
    if isinstance(found, Interrupted):
        raise found
    return found


def _end(workers: list[_Worker]) -> None:
    """Let the processes end: those that are in a cell write its checkpoint first."""
    for worker in workers:
        worker.line.close()
        if worker.cell is not None:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(_END_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()


def _work(work: Work, line: Connection, number: int) -> None:
    """A process: trace once, then one cell after another until nobody asks for more."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver is told, and says what to do
    signal.signal(signal.SIGTERM, _stop)
    gpus = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    common = None
    try:
        while True:
            cell = line.recv()
            try:
                common = work.common() if common is None else common
            except Exception as error:
                line.send(failed(error))
                continue
            line.send(common.run(cell, deadline=work.deadline))
    except (EOFError, OSError, KeyboardInterrupt, Interrupted):
        return  # the driver has ended, or stopped the sweep; what was learned is in the checkpoint


def _stop(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A driver that was killed cannot end its processes, and the next one would wait for their cells."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
