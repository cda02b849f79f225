"""The int8 file of a run: calibrated on what the run read, and judged as the run was judged."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from dtp_edge.errors import InputError
from dtp_edge.files.sessions import open_session
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import batch_of, call
from dtp_edge.graph.libraries.in_file import as_in_file
from dtp_edge.int8 import quantize_onnx
from dtp_edge.onnx import evaluate_onnx
from dtp_edge.onnx.session import run_fixed_batch
from dtp_edge.run.fixed_sizes import as_traced, fits

if TYPE_CHECKING:
    from dtp_edge.run.options import Listener, Options
    from dtp_edge.run.proved import Cut
    from dtp_edge.run.task import Task
    from dtp_edge.training import DataSource, Objective, Split
    from dtp_edge.training.feed import Feed

__all__ = ["AWARE", "CALIBRATION_SAMPLES", "OnnxNetwork", "calibration_rows", "quantise", "quantised"]

CALIBRATION_SAMPLES = 256
AWARE = ".int8-network"  # the network whose weights were trained for int8, while a run is written
_BATCH = 32  # samples that are read at once


class OnnxNetwork(nn.Module):
    """An ONNX file called as the network that it was made of, with outputs of the form that `example` has."""

    def __init__(self, path: Path, example: Any) -> None:
        super().__init__()
        self.session = open_session(path)
        self.example, self.form = tree_flatten(example)

    def forward(self, *inputs: Any) -> Any:
        arrays = [t.detach().cpu().numpy() for t in tree_leaves(inputs) if isinstance(t, Tensor)]
        found = iter(run_fixed_batch(self.session, tuple(arrays), batch_of(inputs) or 1))
        outputs = [torch.from_numpy(next(found)) if isinstance(t, Tensor) else t for t in self.example]
        return tree_unflatten(outputs, self.form)


def quantise(
    cut: Cut, path: Path, data: DataSource, objective: Objective, options: Options, listener: Listener
) -> dict[str, Any]:
    """Write `model.int8.onnx` beside `path`; return what was tried, and both headlines on the test set.

    Where int8 loses more than the options allow, the network is trained with its roundings (`run.aware`); the
    archive of what came of that is in the folder `AWARE` beside the files, for further formats.
    """
    from dtp_edge.run.aware import Aim, recovered
    from dtp_edge.training.feed import Feed
    from dtp_edge.training.objectives.classification import judged_by_top1

    network, whole, target = cut.task.network, cut.task.whole, path.with_name("model.int8.onnx")
    feed = Feed(objective, network.module, whole)
    plain = judged_by_top1(objective) and whole is None
    sign = 1.0 if objective.headline.higher_is_better else -1.0
    form: Any = None  # of the outputs
    if not plain:
        form = call(as_in_file(cut.compact.module, network.module).eval(), network.example_inputs)
    judged: dict[str, int] = {}

    def score(file: Path, split: Split) -> float | None:
        if plain:
            return evaluate_onnx(file, split.ordered(256))
        readable = _Readable(network, split, feed)
        found = _headline(OnnxNetwork(file, form), cut, readable, feed)
        if split is data.test and readable.given < len(split):
            judged["judged_on"] = readable.given
        return found

    if whole is not None or cut.training is None:  # what is trained with roundings is a network of its own
        found = quantised(path, calibration_rows(cut, data, objective), options)
    else:
        aim = Aim(
            options,
            cut.training,
            data,
            lambda: calibration_rows(cut, data, objective),
            lambda file: sign * (score(file, data.holdout) or 0.0),
            path.parent,
        )
        found = recovered(cut, aim, path.parent / AWARE, listener)
    scores = {"accuracy": score(target, data.test), "fp32_accuracy": score(path, data.test)}
    return {**found, **scores, **judged}


def require_readable(task: Task, data: DataSource, objective: Objective) -> None:
    """Raise `InputError`, before training, where no sample has the sizes that a file has for good."""
    from dtp_edge.training.feed import Feed

    feed = Feed(objective, task.network.module, task.whole)
    if sum(1 for _ in itertools.islice(_rows(task.network, data, feed), 2)) < 2:
        shapes = ", ".join(str(list(t.shape)) for t in tree_leaves(task.network.example_inputs))
        raise InputError(
            f"int8 is calibrated on inputs of the file's sizes, {shapes}, and the data has none",
            where="--int8",
            hint="Let the collate function fill up to the example input's sizes, or give another example.",
        )


def calibration_rows(cut: Cut, data: DataSource, objective: Objective) -> Iterable[Any]:
    """Return the training inputs that int8 files are calibrated on, as the file reads them."""
    from dtp_edge.training.feed import Feed
    from dtp_edge.training.objectives.classification import judged_by_top1

    network, whole = cut.task.network, cut.task.whole
    if judged_by_top1(objective) and whole is None:
        return data.calibration(CALIBRATION_SAMPLES)
    return _rows(network, data, Feed(objective, network.module, whole))


def quantised(path: Path, rows: Iterable[Any], options: Options) -> dict[str, Any]:
    """Write the int8 file beside `path`, calibrated on single samples."""
    target = path.with_name("model.int8.onnx")
    per_channel = not options.int8_per_tensor
    result = quantize_onnx(path, target, rows, method=options.int8_method, per_channel=per_channel)
    return {
        "method": result.method,
        "tried": [asdict(row) for row in result.tried],
        "bytes": target.stat().st_size,
    }


def _rows(network: PrunableNetwork, data: DataSource, feed: Feed) -> Iterator[tuple[np.ndarray, ...]]:
    """Single training samples as the file reads them; those of other sizes than it has are left out."""
    seen = 0
    for batch in data.train.ordered(_BATCH):
        called = network.module if feed.host is None else feed.host.module
        for arguments in as_traced(network, [feed.part_inputs(called, batch)]):
            tensors = [t for t in tree_leaves(arguments) if isinstance(t, Tensor)]
            for i in range(len(tensors[0])):
                if seen == CALIBRATION_SAMPLES:
                    return
                seen += 1
                yield tuple(t[i : i + 1].cpu().numpy() for t in tensors)


class _Readable:
    """The batches of a split that a file can read: their sizes are those that it has for good."""

    def __init__(self, network: PrunableNetwork, split: Split, feed: Feed) -> None:
        self.network, self.split, self.feed, self.given = network, split, feed, 0

    def __len__(self) -> int:
        return len(self.split)

    def ordered(self, batch_size: int) -> Iterator[Any]:
        """Batches that fit but for the number of samples, counted anew in `given`."""
        self.given = 0
        for batch in self.split.ordered(batch_size):
            if self.feed.host is not None or fits(self.network, self.feed.arguments(batch).args, rows=False):
                self.given += self.feed.objective.size(batch)
                yield batch

    def shuffled(self, batch_size: int, **drawn: Any) -> Iterator[Any]:
        """Batches of the split as it is: only what is judged has to be read by the file."""
        return self.split.shuffled(batch_size, **drawn)


def _headline(file: OnnxNetwork, cut: Cut, split: Split, feed: Feed) -> float | None:
    """Return how the file does on a split, a part in its network; None where it can read no batch."""
    from dtp_edge.training.evaluate import evaluate

    if next(iter(split.ordered(_BATCH)), None) is None:
        return None
    teacher = None if cut.training is None else cut.training.judge
    if feed.host is None:
        return evaluate(file, split, _BATCH, feed=feed, teacher=teacher)
    before = feed.host.inside(feed.host.module)
    try:
        return evaluate(feed.around(file), split, _BATCH, feed=feed, teacher=teacher)
    finally:
        feed.around(before)
