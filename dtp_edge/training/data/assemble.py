"""A data source of data sets that are read by index: what is held out, what tests, what a batch is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dtp_edge.errors import InputError
from dtp_edge.training.data.dataset_split import DatasetSplit
from dtp_edge.training.data.pictures import HINT
from dtp_edge.training.data.source import DataSource

__all__ = ["LEAST", "assemble", "stacked"]

LEAST = 10  # samples to train on


def assemble(
    name: str,
    learn: Any,
    *,
    where: str,
    held: Any = None,
    test: Any = None,
    collate: Callable[[list[Any]], Any] | None = None,
    workers: int = 0,
    augments: bool = False,
    **fields: Any,
) -> DataSource:
    """Return the data source of up to three sets. `learn` gets `(row, seed)` where it augments, else rows.

    Without `test` a fixed fifth of `learn` is it; without `held` a fixed tenth of the rest, 5,000 at most.
    `fields` are those of `DataSource`. Raises `InputError` for too few samples.
    """
    order = torch.randperm(len(learn), generator=torch.Generator().manual_seed(8))
    cut = 0 if test is not None else len(learn) // 5
    tested = torch.arange(len(test)) if test is not None else order[:cut]
    order = order[cut:]
    kept = 0 if held is not None else max(1, min(5000, len(order) // 10))
    if len(order) < LEAST or not len(tested) or (held is not None and not len(held)):
        raise InputError(
            f"there are too few samples: {len(order)} to train on, {len(tested)} to test",
            where=where,
            hint=f"Give at least a dozen. {HINT}",
        )

    def split(part: Any, rows: torch.Tensor, changes: bool = False) -> DatasetSplit:
        return DatasetSplit(part, rows, workers, augments=changes, collate=collate)

    return DataSource(
        name=name,
        train=split(learn, order[kept:], augments),
        holdout=split(learn, order[:kept]) if held is None else split(held, torch.arange(len(held))),
        test=split(learn if test is None else test, tested),
        **fields,
    )


def stacked(samples: list[Any]) -> Any:
    """Return pairs `(input, target)` of tensors as two stacked tensors."""
    return torch.stack([s[0] for s in samples]), torch.stack([s[1] for s in samples])
