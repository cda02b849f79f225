"""What training reads: three splits that hand out batches as a pure function of (seed, epoch, batch).

Because a batch depends on nothing else, a resumed run sees exactly the batches that the interrupted one
would have seen, and processes can share an epoch by taking every n-th row of each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dtp_edge.errors import InputError
from dtp_edge.training.data.augment import Augment

if TYPE_CHECKING:
    from dtp_edge.training.objectives.base import Objective

Batch = Any  # `(x, y)` of a classifier; else any nest that the objective knows how to read


class Split(Protocol):
    """Samples in batches. Of a classifier `(x, y)`: `x` float32 `[B, C, H, W]` (or `[B, ...]`), normalised,
    `y` int64 `[B]`; else whatever nest the objective reads.
    """

    def __len__(self) -> int: ...

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """All images once, in order, not augmented."""
        ...

    def shuffled(
        self, batch_size: int, *, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Batches `start, start+1, ...` of an epoch, augmented, the incomplete last one left out.

        `batch_size` counts over all processes; process `rank` of `world` gets its share of each batch.
        """
        ...


@dataclass(frozen=True)
class ArraySplit:
    """Images held in memory: `images` uint8 `[N, C, H, W]`, `labels` int64 `[N]`."""

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Callable[[Tensor, torch.Generator], Tensor] = field(default_factory=Augment)

    def __len__(self) -> int:
        return len(self.labels)

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        for i in range(0, len(self), batch_size):
            yield self._normalise(self.images[i : i + batch_size]), self.labels[i : i + batch_size]

    def shuffled(
        self, batch_size: int, *, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        order = epoch_order(len(self), seed, epoch)
        for batch in range(start, batches_per_epoch(len(self), batch_size)):
            rows = order[batch * batch_size : (batch + 1) * batch_size][rank::world]
            generator = torch.Generator().manual_seed(_mix(seed, epoch, batch, rank))
            yield self._normalise(self.augment(self.images[rows], generator)), self.labels[rows]

    def subset(self, rows: Tensor) -> ArraySplit:
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def _normalise(self, images: Tensor) -> Tensor:
        shape = (1, -1, 1, 1)
        mean, std = torch.tensor(self.mean).view(shape), torch.tensor(self.std).view(shape)
        return images.float().div_(255).sub_(mean).div_(std)


@dataclass(frozen=True)
class DataSource:
    """A data set: `holdout` is cut from the training images and chooses; `test` is for the final number.

    `input_shape` is that of one sample: `[C, H, W]`, `[C, L]` of a signal, `[F]`, empty where there are
    several inputs; `mean` and `std` (per channel, of images in 0..1) normalise the input, and belong in front
    of the exported network; they may be empty. `task` names the objective, unless `objective` is one; `facts`
    are what it may want to know (class names, the ignored index). `num_classes` is None where there are none.
    `folders` says in one line which folders were read as what, where that was guessed from their names.
    """

    name: str
    num_classes: int | None
    input_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    holdout: Split
    test: Split
    task: str = "classification"
    folders: str = ""
    objective: Objective | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> Split:
        return {"train": self.train, "holdout": self.holdout, "test": self.test}[name]

    def calibration(self, count: int = 256) -> Iterator[np.ndarray]:
        """Up to `count` training inputs, float32 `[1, C, H, W]` each, not augmented."""
        seen = 0
        for x, _ in self.train.ordered(64):
            for row in x:
                if seen == count:
                    return
                seen += 1
                yield row[None].numpy()

    def check_fits(self, num_classes: int | None, input_shape: tuple[int, ...]) -> None:
        """Raise `InputError` unless a network with that output and input can learn this data."""
        if tuple(input_shape) != self.input_shape:
            hint = "Use a network for this size, or data of the network's size."
            if tuple(input_shape[1:]) == self.input_shape[1:]:
                hint = "Build the network for these channels; grey becomes RGB by x.expand(3, -1, -1)."
            raise InputError(
                f"the data's inputs are {list(self.input_shape)}, the network reads {list(input_shape)}",
                where=self.name,
                hint=hint,
            )
        if num_classes is not None and num_classes != self.num_classes:
            raise InputError(
                f"the data has {self.num_classes} classes, the network's output has {num_classes}",
                where=self.name,
                hint="Build the network with the data's number of classes.",
            )


def batches_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch; a set smaller than a batch gives one short batch."""
    return max(1, count // batch_size)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of an epoch, the same on every machine and in every process."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_mix(seed, epoch)))


def split_holdout(
    train: ArraySplit, fraction: float = 0.1, limit: int = 5000
) -> tuple[ArraySplit, ArraySplit]:
    """Cut a hold-out (not augmented) off the training images; the cut is fixed, not the run's seed."""
    count = min(limit, int(len(train) * fraction))
    if count < 1 or count >= len(train):
        raise InputError("there are too few training images to hold some out", hint="Give at least ten.")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(20230716))
    kept, held = order[count:].sort().values, order[:count].sort().values
    return train.subset(kept), replace(train.subset(held), augment=Augment())


def _mix(*numbers: int) -> int:
    """Combine seeds so that neighbours give unrelated streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
