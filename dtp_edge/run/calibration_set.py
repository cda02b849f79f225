"""The inputs that a network is calibrated on: read, split, and refused where nothing good can come of
them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from dtp_edge.errors import InputError
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import batch_of, carries_batch
from dtp_edge.graph.part import Whole
from dtp_edge.run.calibration_samples import in_small_batches
from dtp_edge.run.calibration_source import Batch, read_batches

if TYPE_CHECKING:
    from dtp_edge.training import DataSource, Objective

__all__ = ["CalibrationSet", "calibration_set"]

IMAGES = 512  # asked for by default
LEAST, FEW = 16, 128  # samples: fewer are refused, fewer than FEW are warned of
HELD_OUT = 5  # every fifth batch judges the result
_PIXELS = 2**22  # input numbers of one channel that all batches hold together: 83 images of 224 x 224
_HINT = "Give a few hundred inputs as the network reads them when it is used; labels are not needed."


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
            size = _count([batch])
            for i in range(size):
                if most == 0:
                    return
                most -= 1
                rows = [t for t in tree_leaves(batch) if isinstance(t, Tensor)]
                row = [(t[i : i + 1] if carries_batch(t, size) else t).numpy() for t in rows]
                yield row[0] if len(row) == 1 else tuple(row)


def calibration_set(
    given: DataSource | Iterable[Any],
    network: PrunableNetwork,
    whole: Whole | None = None,
    *,
    images: int = IMAGES,
    seed: int = 0,
    objective: Objective | str | None = None,
) -> CalibrationSet:
    """Read up to `images` samples of a data source's training inputs, or of batches as the network takes
    them; with a `whole` as that takes them, and the network gets what it hands on.

    A batch is a tensor, a tuple, or a dict of inputs by keyword; what stands behind the inputs in a tuple
    (labels) is left away; a source is read as the `objective` does, None: its own. **Raises:** `InputError`
    for inputs that do not fit the network, are not finite, all alike, or too few.
    """
    read = read_batches(given, network, whole, images=images, seed=seed, objective=objective)
    batches, count = read.batches, _count(read.batches)
    if count < LEAST:
        raise InputError(
            f"too few calibration inputs: {count}",
            where="calibrate",
            hint=f"Give at least {LEAST}, better {IMAGES}; labels are not needed.",
        )
    for batch in batches:
        _refuse_misfit(batch, network)
    _refuse_values(batches)
    fitted, held = (in_small_batches(part, network) for part in _split(batches))
    return CalibrationSet(read.name, fitted, held, tuple(_warnings(count, read.lost)))


def _warnings(count: int, lost: int) -> Iterator[str]:
    if count < FEW:
        yield f"Only {count} samples to calibrate on: {IMAGES} give a better network."
    if lost:
        yield f"{lost} of {count + lost} calibration inputs have other sizes than the example: left away."


def _count(batches: list[Batch]) -> int:
    return sum(batch_of(batch) or 0 for batch in batches)


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
    leaves = [[t for t in tree_leaves(b) if isinstance(t, Tensor) and t.dim()] for b in batches]
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
        return tree_map(lambda t: t[rows] if carries_batch(t, count) else t, batch)

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
