"""The inputs that a network is calibrated on: read, split, and refused where nothing good can come of
them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.arguments import in_order

if TYPE_CHECKING:
    from dtp_edge.training import DataSource

__all__ = ["CalibrationSet", "calibration_set"]

IMAGES = 512  # asked for by default
LEAST, FEW = 16, 128  # samples: fewer are refused, fewer than FEW are warned of
HELD_OUT = 5  # every fifth batch judges the result
_BATCH = 32  # samples of a data source that are run at once
_PIXELS = 2**22  # input numbers of one channel that all batches hold together: 83 images of 224 x 224
_HINT = "Give a few hundred inputs as the network reads them when it is used; labels are not needed."
Batch = tuple[Any, ...]


@dataclass(frozen=True)
class CalibrationSet:
    """`fitted` batches are calibrated on, `held_out` ones judge; both hold the network's arguments."""

    name: str
    fitted: list[Batch]
    held_out: list[Batch]
    warnings: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """How many samples are calibrated on."""
        return _count(self.fitted)

    @property
    def judges(self) -> int:
        """How many samples are held out."""
        return _count(self.held_out)

    def arrays(self, most: int) -> Iterator[Any]:
        """Single samples for int8: float32 arrays of a network with one input, else tuples of them."""
        for batch in self.fitted:
            for i in range(_count([batch])):
                if most == 0:
                    return
                most -= 1
                row = [t[i : i + 1].numpy() for t in tree_leaves(batch) if isinstance(t, Tensor)]
                yield row[0] if len(row) == 1 else tuple(row)


def calibration_set(
    given: DataSource | Iterable[Any], network: PrunableNetwork, *, images: int = IMAGES, seed: int = 0
) -> CalibrationSet:
    """Read up to `images` samples of a data source's training inputs, or of batches as the network takes
    them.

    A batch is a tensor, a tuple, or a dict of inputs by keyword; what stands behind the inputs in a tuple
    (labels) is left away. **Raises:** `InputError` for inputs that do not fit the network, are not finite,
    all alike, or too few.
    """
    name, found = "batches", given
    if hasattr(given, "train") and hasattr(given, "input_shape"):
        name, found = given.name, _of_source(given, network, images, seed)  # type: ignore[union-attr]
    batches = [_arguments(b, network) for b in _up_to(found, images)]  # type: ignore[arg-type]
    count = _count(batches)
    if count < LEAST:
        raise InputError(
            f"too few calibration inputs: {count}",
            where="calibrate",
            hint=f"Give at least {LEAST}, better {IMAGES}; labels are not needed.",
        )
    for batch in batches:
        _refuse_misfit(batch, network)
    _refuse_values(batches)
    few = f"Only {count} samples to calibrate on: {IMAGES} give a better network."
    fitted, held = _split(batches)
    return CalibrationSet(name, fitted, held, (few,) if count < FEW else ())


def _count(batches: list[Batch]) -> int:
    first = (next((t for t in tree_leaves(b) if isinstance(t, Tensor)), None) for b in batches)
    return sum(0 if t is None or t.dim() == 0 else len(t) for t in first)


def _of_source(data: DataSource, network: PrunableNetwork, images: int, seed: int) -> Iterator[Batch]:
    """Training inputs in a random order, not augmented."""
    data.check_fits(None, tuple(network.example_inputs[0].shape[1:]))
    size = _BATCH if network.dynamic_batch else len(network.example_inputs[0])
    if hasattr(data.train, "subset"):
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
        split = data.train.subset(order[:images])  # type: ignore[attr-defined]
    else:
        split = data.train
    yield from ((x,) for x, _ in split.ordered(size) if network.dynamic_batch or len(x) == size)


def _up_to(batches: Iterable[Any], images: int) -> Iterator[Any]:
    seen = 0
    for batch in batches:
        seen += _count([batch if isinstance(batch, tuple) else (batch,)]) or 1
        yield batch
        if seen >= images:
            return


def _arguments(batch: Any, network: PrunableNetwork) -> Batch:
    if isinstance(batch, Mapping):
        return in_order(network.module, **batch)
    if isinstance(batch, np.ndarray):
        batch = torch.from_numpy(batch)
    inputs = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    return inputs[: len(network.example_inputs)]


def _refuse_misfit(batch: Batch, network: PrunableNetwork) -> None:
    """Raise `InputError` unless a batch looks like the example inputs, but for the size of a free batch."""
    pairs = (tree_leaves(batch), tree_leaves(network.example_inputs))
    first = 1 if network.dynamic_batch else 0
    fits = len(pairs[0]) == len(pairs[1]) and all(
        not isinstance(want, Tensor)
        or (isinstance(got, Tensor) and got.dim() == want.dim() and got.shape[first:] == want.shape[first:]
            and got.is_floating_point() == want.is_floating_point())
        for got, want in zip(*pairs, strict=True)
    )  # fmt: skip
    if not fits:
        got, want = (
            ", ".join(f"{str(t.dtype)[6:]} {list(t.shape)}" for t in leaves if isinstance(t, Tensor))
            for leaves in pairs
        )
        raise InputError(
            f"the calibration inputs are {got or 'no tensors'}, the network reads {want}",
            where="calibrate",
            hint="Bring them to the size and type of the example inputs"
            + ("." if network.dynamic_batch else ", whose batch this network cannot change."),
        )


def _refuse_values(batches: list[Batch]) -> None:
    leaves = [[t for t in tree_leaves(b) if isinstance(t, Tensor)] for b in batches]
    real = [t for ts in leaves for t in ts if t.is_floating_point()]
    if not all(bool(torch.isfinite(t).all()) for t in real):
        raise InputError(
            "the calibration inputs hold NaN or infinity", where="calibrate", hint="Mend the data."
        )
    first = leaves[0][0]
    alike = all(bool((t == t[:1]).all()) and torch.equal(t[:1], first[:1]) for ts in leaves for t in ts[:1])
    flat = real and all(bool((t.flatten(1) == t.flatten(1)[:, :1]).all()) for t in real if t.dim() > 1)
    if alike or flat:
        what = "all the same" if alike else "constant, each of them"
        raise InputError(f"the calibration inputs are {what}", where="calibrate", hint=_HINT)


def _split(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Every fifth batch is held out; a single batch, or few, are cut in two."""
    if len(batches) < HELD_OUT:
        pairs = [_cut(b) for b in batches]
        held = [h for _, h in pairs if h is not None]
        if held:
            return [f for f, _ in pairs], held
    held = batches[HELD_OUT - 1 :: HELD_OUT] or batches[-1:]
    return [b for i, b in enumerate(batches) if i % HELD_OUT != HELD_OUT - 1] or batches, held


def _cut(batch: Batch) -> tuple[Batch, Batch | None]:
    count = _count([batch])
    held = count // HELD_OUT
    if held == 0:
        return batch, None

    def part(rows: slice) -> Batch:
        return tree_map(
            lambda t: t[rows] if isinstance(t, Tensor) and t.dim() and len(t) == count else t, batch
        )

    return part(slice(0, count - held)), part(slice(count - held, count))


def affordable(batches: list[Batch]) -> list[Batch]:
    """The first batches that fit into memory with all that a fit holds of them at once; at least one."""
    found, pixels = [], 0
    for batch in batches:
        found.append(batch)
        shape = max((t.shape for t in tree_leaves(batch) if isinstance(t, Tensor)), key=math.prod)
        pixels += math.prod(shape) // (shape[1] if len(shape) > 2 else 1)
        if pixels >= _PIXELS:
            break
    return found
