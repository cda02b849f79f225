"""What a phase of training is told, and what the phases of one run share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from dtp_edge.metrics import HELD_OUT
from dtp_edge.training.checkpoint import Store
from dtp_edge.training.data.source import DataSource, batches_per_epoch
from dtp_edge.training.distil import BlockDistillation
from dtp_edge.training.feed import Feed
from dtp_edge.training.objectives.base import Objective
from dtp_edge.training.objectives.classification import judged_by_top1
from dtp_edge.training.recipe import Recipe
from dtp_edge.training.runtime import Runtime
from dtp_edge.training.shared import Shared

Row = dict[str, Any]


def held_out(objective: Objective) -> str:
    """Return under which name a row has the headline on the hold-out."""
    return HELD_OUT[0] if judged_by_top1(objective) else HELD_OUT[1]


class Progress(Protocol):
    """Called once a step: `done` of `total` steps of `phase`, and the step's numbers."""

    def __call__(self, phase: str, done: int, total: int, info: Mapping[str, Any]) -> None: ...


@dataclass
class Session:
    """What the phases of one run share; `shared` holds those that several runs have in common.

    `feed` is the objective at work; without labels `judge`, the dense network, is what scores compare with.
    """

    data: DataSource
    recipe: Recipe
    runtime: Runtime
    progress: Progress | None = None
    store: Store | None = None
    checkpoint_seconds: float = 30.0
    seconds: dict[str, float] = field(default_factory=dict)
    curves: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    shared: Shared | None = None
    feed: Feed = field(default_factory=Feed)
    judge: nn.Module | None = None

    def store_of(self, phase: str) -> Store | None:
        """Return where a phase's state is kept: among the shared ones, or in the run's own folder."""
        common = None if self.shared is None else self.shared.stores.get(phase)
        return self.store if common is None else common

    @property
    def score_batch(self) -> int:
        """How many samples are scored at once."""
        return self.feed.objective.score_batch or self.recipe.batch_size

    def steps(self, epochs: float) -> int:
        return self.recipe.steps(epochs, batches_per_epoch(len(self.data.train), self.recipe.batch_size))


@dataclass
class Phase:
    """`module` is trained in place for `steps` steps.

    `after_step` runs behind every optimiser step and returns numbers for the curve. `scores` learn at
    their own constant rate, without weight decay. With `keep_best` the weights that do best on the
    hold-out are what remains: those of an epoch's end, or those that the phase began with. `blocks` compares
    the outputs of blocks: `teacher` is the network, or the host of the network, that it listens to.
    """

    name: str
    module: nn.Module
    steps: int
    learning_rate: float
    teacher: nn.Module | None = None
    after_step: Callable[[], Mapping[str, float]] | None = None
    scores: Sequence[nn.Parameter] = ()
    score_rate: float = 0.0
    keep_best: bool = False
    blocks: BlockDistillation | None = None
