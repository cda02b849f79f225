"""What a network is trained for: what it reads of a batch, its loss, what is distilled, how it is judged.

Everything of a run that learns or judges asks the objective and nothing else of what a batch is: a batch may
be any nest of tensors, dicts, lists and values, as the data's collate function makes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dtp_edge.errors import InputError
from dtp_edge.metrics import Headline
from dtp_edge.training.objectives import nests
from dtp_edge.training.relative import relative_square

if TYPE_CHECKING:
    from dtp_edge.training.data.source import DataSource
    from dtp_edge.training.recipe import Recipe

__all__ = ["Headline", "Inputs", "Metric", "Objective"]


@dataclass(frozen=True)
class Inputs:
    """What a network is called with: positional arguments, and some by keyword."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


class Metric(Protocol):
    """Accumulates the headline over a split; outputs and batches come on the CPU, outputs in float32.

    It may also have `interval()`, the 95 % interval of the value or None, of which `why_no_interval` tells
    the reason; and `state()`, what it has seen as a value that can be pickled, with `merge(states)`, which
    takes in those of other processes. Without these two every process scores the whole split.
    """

    def update(self, outputs: Any, batch: Any) -> None:
        """Take in what the network, in evaluation, put out for a batch."""
        ...

    def compute(self) -> float:
        """Return the headline of all that was seen."""
        ...


class Objective(ABC):
    """One kind of task. A subclass needs `headline`, `loss` and `metric`; the rest has a default.

    `labelled` False: the data has no labels, and in place of a batch `loss` and `metric` get the outputs of
    the dense network. Objects are copied and pickled, so they hold no open file.
    """

    name: ClassVar[str] = ""
    labelled: ClassVar[bool] = True
    score_batch: ClassVar[int | None] = None  # samples scored at once; None: as many as are trained on
    headline: Headline

    @classmethod
    def of(cls, data: DataSource) -> Objective:
        """Return this objective for a data set, whose `num_classes` and `facts` it may read."""
        return cls()

    def settings(self) -> dict[str, Any]:
        """Return what a resumed run must agree in, in JSON values."""
        return {}

    def begin(self, network: nn.Module | None, recipe: Recipe) -> None:  # noqa: B027
        """Called once before training with the whole dense network, of the user's own class if it has one.

        Only in a loop of one's own, with `open_session`, there may be none.
        """

    def inputs(self, batch: Any) -> Any:
        """Return what of a batch goes into the network: a tensor, a tuple, a dict of keywords, or `Inputs`.

        Here: the first part of a pair `(inputs, targets)`, and of anything else all of it.
        """
        return batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 2 else batch

    @abstractmethod
    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean loss of a batch, a scalar; float outputs come in float32, all on one device.

        The network is in training, but where channels are scored before it: there it is in evaluation.
        """

    @abstractmethod
    def metric(self) -> Metric:
        """Return a fresh metric, which accumulates the headline over a split."""

    def distilled(self, outputs: Any) -> Any:
        """Return what of the outputs is compared with the dense network's: a nest of tensors, None: nothing.

        The dense network runs in evaluation. Here: every float tensor of the outputs.
        """
        return [t for t in tree_leaves(outputs) if isinstance(t, Tensor) and t.is_floating_point()]

    def distance(self, ours: Any, theirs: Any, temperature: float) -> Tensor | None:
        """Return how far `distilled` of the network is from that of the dense one; None where none compares.

        Here: the squared difference over the dense output's own square, mean over the tensors of one shape.
        """
        pairs = zip(tree_leaves(ours), tree_leaves(theirs), strict=False)
        terms = [
            relative_square(s, t)
            for s, t in pairs
            if isinstance(s, Tensor) and isinstance(t, Tensor) and s.shape == t.shape
        ]
        return torch.stack(terms).mean() if terms else None

    def size(self, batch: Any) -> int:
        """Return how many samples a batch holds. Here: the length of the network's first input."""
        return nests.length(self.arguments(batch))

    def parts(self, batch: Any, count: int) -> Sequence[Any]:
        """Return a batch in `count` parts or fewer. Here: tensors and lists of its length are cut alike."""
        return nests.chunks(batch, self.size(batch), count)

    def worth(self, outputs: Any, batch: Any) -> Tensor:
        """Return the loss that channels and branches are worth by, before training. Here: `loss`."""
        return self.loss(outputs, batch)

    def quick(self, outputs: Any, batch: Any) -> float | None:
        """Return the headline summed over a training batch where that costs next to nothing, else None."""
        return None

    def arguments(self, batch: Any) -> Inputs:
        """Return `inputs` in its one form."""
        found = self.inputs(batch)
        if isinstance(found, Inputs):
            return found
        if isinstance(found, Mapping):
            return Inputs(kwargs=found)
        return Inputs(tuple(found) if isinstance(found, (tuple, list)) else (found,))

    def refuse(self, data: DataSource, outputs: Any) -> None:  # noqa: B027
        """Raise `InputError` where what the dense network puts out does not fit the data. Here: never."""

    def pictures(self, outputs: Any, batch: Any, data: DataSource) -> list[Any] | None:
        """Return a picture of Pillow for each sample, with `outputs` drawn in; of None what is wanted.

        The report shows them side by side; `drawing` has the pens. Here: None, there is nothing to see.
        """
        return None


def unfit(what: str, hint: str) -> InputError:
    """Return the error of an objective that does not fit its network."""
    return InputError(what, where="objective", hint=hint)
