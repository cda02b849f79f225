"""Where cells run: in this process one after another, in several processes, on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from dtp_edge.sweeps.common import Common, Maker, Outcome
from dtp_edge.sweeps.grid import Cell, Grid

__all__ = ["Engine", "InTurn", "Work"]


@dataclass(frozen=True)
class Work:
    """What is to be run: the cells that are left, in order, and what a process needs to run one.

    `deadline` is in seconds of `time.time`, None for as long as it takes.
    """

    cells: Sequence[Cell]
    make: Maker
    grid: Grid
    folder: Path
    threads: int
    deadline: float | None = None

    def common(self) -> Common:
        """Return what a process that runs cells traces once."""
        return Common(self.make(), self.grid, self.folder, self.threads)


class Engine(Protocol):
    """Runs cells; a cell that has a parent begins when that one has ended.

    `first_length` is the share of its schedule that each takes first.
    """

    first_length: ClassVar[float]

    def run(self, work: Work) -> Iterator[tuple[str, Outcome] | None]:
        """Yield each cell's id and how it ended, once; and None now and then, so that the page is kept."""
        ...


@dataclass(frozen=True)
class InTurn:
    """One after another in this process, in the network that it has traced already."""

    first_length: ClassVar[float] = 1.0

    common: Common
    also: Any = None  # told every step: `progress(phase, done, total, info)` with `.stage(text)`
    begins: Callable[[Cell], None] = lambda cell: None

    def run(self, work: Work) -> Iterator[tuple[str, Outcome] | None]:
        for cell in work.cells:
            self.begins(cell)
            yield cell.id, self.common.run(cell, deadline=work.deadline, also=self.also)
