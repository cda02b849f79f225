"""Where calibration inputs come from: a data source as its objective reads it, or batches as they are called
with; of a part of a network, what the whole hands on to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dtp_edge.errors import DtpEdgeError, InputError, first_line, users_line
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.arguments import in_order
from dtp_edge.graph.leaves import batch_of
from dtp_edge.graph.part import Whole
from dtp_edge.run.fixed_sizes import as_traced
from dtp_edge.run.options import is_source

if TYPE_CHECKING:
    from dtp_edge.training import DataSource, Objective

__all__ = ["Batch", "Read", "read_batches"]

_BATCH = 32  # samples of a data source that are run at once
Batch = tuple[Any, ...]


@dataclass(frozen=True)
class Read:
    """`batches` of the network's arguments; `lost` samples were read besides, of other sizes than were
    traced."""

    name: str
    batches: list[Batch]
    lost: int = 0


def read_batches(
    given: DataSource | Iterable[Any],
    network: PrunableNetwork,
    whole: Whole | None,
    *,
    images: int,
    seed: int,
    objective: Objective | str | None = None,
) -> Read:
    """Read up to `images` samples, a source's training inputs in a random order and not augmented.

    Sizes that were not traced are left away where others are there and the user did not choose them: the
    last few of a source whose batch is fixed, and what a whole makes of pictures of any size.
    """
    if not is_source(given):
        found = [*_up_to((_arguments(b, network, whole) for b in given), images)]  # type: ignore[union-attr]
        return _fitting("batches", found, network) if whole is not None else Read("batches", found)
    asked = _of_source(given, network, whole, images, seed, objective)  # type: ignore[arg-type]
    found = [*_up_to(asked, images)]
    return _fitting(given.name, found, network)  # type: ignore[union-attr]


def _fitting(name: str, batches: list[Batch], network: PrunableNetwork) -> Read:
    fit = as_traced(network, batches)
    if not fit:
        return Read(name, batches)  # refused with its sizes
    counts = [sum(batch_of(b) or 0 for b in some) for some in (batches, fit)]
    return Read(name, fit, counts[0] - counts[1])


def _of_source(
    data: DataSource,
    network: PrunableNetwork,
    whole: Whole | None,
    images: int,
    seed: int,
    objective: Objective | str | None,
) -> Iterator[Batch]:
    from dtp_edge.training.feed import Feed
    from dtp_edge.training.objectives.registry import objective_of

    called = network.example_inputs if whole is None else whole.example_inputs
    if data.input_shape and len(called) == 1 and isinstance(called[0], torch.Tensor):
        data.check_fits(None, tuple(called[0].shape[1:]))
    size = _BATCH if network.dynamic_batch else batch_of(network.example_inputs) or 1
    split: Any = data.train
    if hasattr(split, "subset"):
        split = split.subset(torch.randperm(len(split), generator=_generator(seed))[:images])
    feed, module = Feed(objective_of(objective, data), network.module, whole), network.module
    for batch in split.ordered(size):
        found = feed.part_inputs(module if whole is None else whole.module, batch)
        yield found[: len(network.example_inputs)]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _up_to(batches: Iterable[Batch], images: int) -> Iterator[Batch]:
    seen = 0
    for batch in batches:
        seen += batch_of(batch) or 1
        yield batch
        if seen >= images:
            return


def _arguments(batch: Any, network: PrunableNetwork, whole: Whole | None) -> Batch:
    """Return what the network is called with; what stands behind the inputs in a tuple (labels) is left
    away."""
    if whole is not None:
        return _handed_on(batch, whole)[: len(network.example_inputs)]
    if isinstance(batch, Mapping):
        return in_order(network.module, **batch)
    return _positional(batch)[: len(network.example_inputs)]


def _positional(batch: Any) -> Batch:
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(batch)
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def _handed_on(batch: Any, whole: Whole) -> Batch:
    """Return what the whole calls its part with for a batch."""
    try:
        if isinstance(batch, Mapping):
            return whole.inputs_of(**batch)
        return whole.inputs_of(*_positional(batch)[: len(whole.example_inputs)])
    except DtpEdgeError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"the network does not run on the calibration inputs ({first_line(error)})",
            where=users_line(error) or "calibrate",
            hint="Give batches as the whole network takes them: tuples of its arguments, or dicts.",
        ) from error
