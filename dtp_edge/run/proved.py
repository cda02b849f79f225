"""The cut: what stays, the compact network, and the proofs that it computes the same within the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dtp_edge.cost.outside import Outside, most_outside, outside_text
from dtp_edge.graph import PrunableNetwork
from dtp_edge.onnx.interface import source_checks, source_notes
from dtp_edge.proof import (
    Check,
    check_depends_on_input,
    check_masked_equals_compact,
    require,
    with_free_sizes,
)
from dtp_edge.proof.in_whole import check_put_back
from dtp_edge.run.task import Task
from dtp_edge.run.traced import refuse_nonfinite
from dtp_edge.surgery import Compact, compact, put_back

if TYPE_CHECKING:
    from dtp_edge.run.calibrated import Calibrated
    from dtp_edge.training import TrainingOutcome

__all__ = ["Cut", "cut_and_prove"]


@dataclass(frozen=True)
class Cut:
    """`keep` is bool over atoms, `compact` what it leaves, `checks` every proof so far, all of them passed.

    `training` is what the weights went through, if the run had data, `calibration` how they were fitted
    without it; `notes` say what the cut cannot do; `rises` how much the loss rose without each branch, by
    name, where that was measured.
    """

    task: Task
    keep: np.ndarray
    compact: Compact
    checks: tuple[Check, ...]
    training: TrainingOutcome | None = None
    notes: tuple[str, ...] = ()
    rises: Mapping[str, float] = field(default_factory=dict)
    calibration: Calibrated | None = None

    @cached_property
    def outside(self) -> tuple[Outside, ...]:
        """What of the network, dense or cut, lies outside of what the profile was measured on."""
        cost = self.task.cost
        return most_outside(cost, cost.dense_sizes(), self.task.network.layers.sizes(self.keep.astype(float)))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the source file, of the tracing, the profile and the training."""
        notes = (*source_notes(self.task.network.module), *self.task.network.notes, *self.notes)
        if text := outside_text(self.outside, self.task.cost.profile.name):
            notes = (*notes, text)
        outcomes = (self.training, self.calibration)
        return (*notes, *(text for outcome in outcomes if outcome is not None for text in outcome.warnings))

    @classmethod
    def of(cls, task: Task, keep: np.ndarray, rises: Mapping[str, float] | None = None) -> Cut:
        """Cut the network as it is.

        **Raises:** `CheckError` if a proof fails or a budget does not hold on the final widths, `InputError`
        if training left weights that are not finite.
        """
        refuse_nonfinite(task.network.module)
        compacted, checks = cut_and_prove(task.network, keep)
        return cls._complete(task, keep, compacted, checks, rises=rises or {})

    @classmethod
    def trained(
        cls, task: Task, outcome: TrainingOutcome, compacted: Compact, rises: Mapping[str, float]
    ) -> Cut:
        """Take the network that was fine-tuned after the cut; raises what `of` does.

        Its weights are put back into the dense one, so that the masked network computes the same.
        """
        return cls._put_back(task, outcome.keep, compacted, training=outcome, rises=rises)

    @classmethod
    def calibrated(
        cls,
        task: Task,
        keep: np.ndarray,
        compacted: Compact,
        outcome: Calibrated,
        rises: Mapping[str, float],
    ) -> Cut:
        """Take the network that was fitted after the cut, as `trained` does."""
        return cls._put_back(task, keep, compacted, calibration=outcome, rises=rises)

    @classmethod
    def _put_back(cls, task: Task, keep: np.ndarray, compacted: Compact, **outcome: Any) -> Cut:
        refuse_nonfinite(compacted.module)
        put_back(task.network, compacted)
        return cls._complete(task, keep, compacted, prove(task.network, keep, compacted), **outcome)

    @classmethod
    def _complete(
        cls, task: Task, keep: np.ndarray, compacted: Compact, proofs: list[Check], **outcome: Any
    ) -> Cut:
        """Require every proof and limit, and take a graph that runs at other sizes where there is one."""
        checks = (*source_checks(task.network.module), *task.checks, *proofs, task.check(keep))
        require(checks)
        free, note = with_free_sizes(task.network, keep, compacted)
        if task.whole is not None:
            checks = (*checks, check_put_back(task.whole, task.network, keep, free))
            require(checks)
        return cls(task, keep, free, checks, notes=(note,) if note else (), **outcome)


def cut_and_prove(network: PrunableNetwork, keep: np.ndarray) -> tuple[Compact, list[Check]]:
    """Cut the network and prove that the result is the same."""
    result = compact(network, keep)
    return result, prove(network, keep, result)


def prove(network: PrunableNetwork, keep: np.ndarray, compacted: Compact) -> list[Check]:
    """Prove masked ≡ compact, with own and with random weights, and that it is alive; raises `CheckError`."""
    checks = [
        check_masked_equals_compact(network, keep, compacted, randomise=False),
        check_masked_equals_compact(network, keep, compacted, randomise=True),
        check_depends_on_input(network, keep, compacted),
    ]
    require(checks)
    return checks
