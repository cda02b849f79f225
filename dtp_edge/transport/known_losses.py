"""What was measured of a network before any mask was learned: it is the same for every budget and device.

Which atoms matter, and how the loss rises without a branch, depends on weights, batches and loss alone. So
whoever prunes one network for many budgets measures it once: the greedy removal of branches goes the same
way for all of them, and only stops earlier for some.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["KnownLosses"]


@dataclass
class KnownLosses:
    """`worth` `[n_atoms]` is that of `scores.importance`; `losses` are the mean losses under masks."""

    worth: np.ndarray | None = None
    losses: dict[str, float] = field(default_factory=dict)

    def missing(self, masks: np.ndarray) -> list[int]:
        """Return which of the masks `[k, n_atoms]` nobody measured."""
        return [i for i, mask in enumerate(masks) if _key(mask) not in self.losses]

    def note(self, masks: np.ndarray, losses: np.ndarray) -> None:
        """Take over the losses `[k]` under masks `[k, n_atoms]`."""
        self.losses |= {_key(mask): float(loss) for mask, loss in zip(masks, losses, strict=True)}

    def of(self, masks: np.ndarray) -> np.ndarray:
        """Return the losses `[k]` under masks that were measured."""
        return np.array([self.losses[_key(mask)] for mask in masks])


def _key(mask: np.ndarray) -> str:
    """A hard mask in a line of text; atoms are many and most are open."""
    return ",".join(map(str, np.flatnonzero(mask == 0)))
