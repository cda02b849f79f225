"""A split over a torch dataset, read by worker processes; what goes wrong there comes back as a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dtp_edge.errors import DtpEdgeError, InputError, first_line, users_line
from dtp_edge.training.data.pictures import HINT
from dtp_edge.training.data.source import Batch, _mix, batches_per_epoch, epoch_order


@dataclass(frozen=True)
class DatasetSplit:
    """A split over a torch dataset, read by `workers` processes.

    `augments` says that the dataset takes `(row, seed)`; otherwise randomness inside it is the user's.
    `collate` makes a batch of a list of samples, any nest; None: pairs `(tensor, class)`.
    """

    dataset: Any
    rows: Tensor
    workers: int = 0
    augments: bool = False
    collate: Callable[[list[Any]], Batch] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        rows = self.rows.tolist()
        yield from self._load([rows[i : i + batch_size] for i in range(0, len(rows), batch_size)])

    def shuffled(
        self, batch_size: int, *, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        order = self.rows[epoch_order(len(self), seed, epoch)].tolist()
        plan = []
        for batch in range(start, batches_per_epoch(len(self), batch_size)):
            rows = order[batch * batch_size : (batch + 1) * batch_size][rank::world]
            plan.append([(r, _mix(seed, epoch, r)) for r in rows] if self.augments else rows)
        yield from self._load(plan)

    def subset(self, rows: Tensor) -> DatasetSplit:
        return replace(self, rows=self.rows[rows])

    def _load(self, plan: list[list[Any]]) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(0)  # else the loader draws its seed from the global one
        loader = DataLoader(
            Told(self.dataset),
            batch_sampler=plan,
            num_workers=self.workers,
            collate_fn=_pairs if self.collate is None else Collated(self.collate),
            generator=generator,
        )
        for batch in loader:
            if isinstance(batch, DtpEdgeError):
                raise batch
            yield batch


@dataclass(frozen=True)
class Told(Dataset):
    """A dataset whose errors come as values: a worker process would wrap them in its traceback."""

    dataset: Any

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.dataset[index]
        except DtpEdgeError as error:
            return error
        except Exception as error:
            return InputError(
                f"reading sample {index} failed: {type(error).__name__}: {error}",
                where=users_line(error),
                hint=HINT,
            )


@dataclass(frozen=True)
class Collated:
    """A collate function of the user's own, whose errors come as values too."""

    collate: Callable[[list[Any]], Batch]

    def __call__(self, samples: list[Any]) -> Batch | DtpEdgeError:
        for sample in samples:
            if isinstance(sample, DtpEdgeError):
                return sample
        try:
            return self.collate(samples)
        except DtpEdgeError as error:
            return error
        except Exception as error:
            return InputError(
                f"making a batch of {len(samples)} samples failed: {first_line(error, kind=True)}",
                where=users_line(error) or "collate",
                hint="Samples that differ in size need a collate function of your own: docs/tasks.md.",
            )


def _pairs(samples: list[Any]) -> Batch | DtpEdgeError:
    for sample in samples:
        if isinstance(sample, DtpEdgeError):
            return sample
    if len({s[0].shape for s in samples}) > 1:
        sizes = sorted({str(list(s[0].shape)) for s in samples})
        return InputError(f"samples differ in size: {', '.join(sizes[:3])}", where="--data", hint=HINT)
    x = torch.stack([s[0] for s in samples])
    return x.float() if x.is_floating_point() else x, torch.tensor([int(s[1]) for s in samples])
