"""The int8 file of a run: calibrated on what the run read, and judged as the run was judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from dtp_edge.files.sessions import open_session
from dtp_edge.graph import PrunableNetwork
from dtp_edge.graph.leaves import batch_of, call
from dtp_edge.int8 import quantize_onnx
from dtp_edge.onnx import evaluate_onnx
from dtp_edge.onnx.session import run_fixed_batch
from dtp_edge.run.fixed_sizes import as_traced

if TYPE_CHECKING:
    from dtp_edge.run.proved import Cut
    from dtp_edge.training import DataSource, Objective
    from dtp_edge.training.feed import Feed

__all__ = ["CALIBRATION_SAMPLES", "OnnxNetwork", "calibration_rows", "quantise", "quantised"]

CALIBRATION_SAMPLES = 256
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


def quantise(cut: Cut, path: Path, data: DataSource, objective: Objective, method: str) -> dict[str, Any]:
    """Write `model.int8.onnx` beside `path`; return what each method reached, and both headlines."""
    from dtp_edge.training.feed import Feed
    from dtp_edge.training.objectives.classification import Classification

    network, target = cut.task.network, path.with_name("model.int8.onnx")
    feed = Feed(objective, network.module)
    plain = isinstance(objective, Classification)
    found = quantised(path, calibration_rows(cut, data, objective), method)
    if plain:
        scores = {
            "accuracy": evaluate_onnx(target, data.test.ordered(256)),
            "fp32_accuracy": evaluate_onnx(path, data.test.ordered(256)),
        }
    else:
        example = call(cut.compact.module.eval(), network.example_inputs)
        scores = {
            key: _headline(OnnxNetwork(file, example), data, feed, cut.task.network.module)
            for key, file in (("accuracy", target), ("fp32_accuracy", path))
        }
    return {**found, **scores}


def calibration_rows(cut: Cut, data: DataSource, objective: Objective) -> Iterable[Any]:
    """Return the training inputs that int8 files are calibrated on, as the file reads them."""
    from dtp_edge.training.feed import Feed
    from dtp_edge.training.objectives.classification import Classification

    if isinstance(objective, Classification):
        return data.calibration(CALIBRATION_SAMPLES)
    network = cut.task.network
    return _rows(network, data, Feed(objective, network.module))


def quantised(path: Path, rows: Iterable[Any], method: str) -> dict[str, Any]:
    """Write the int8 file beside `path`, calibrated on single samples."""
    target = path.with_name("model.int8.onnx")
    result = quantize_onnx(path, target, rows, method=method)
    return {
        "method": result.method,
        "tried": [asdict(row) for row in result.tried],
        "bytes": target.stat().st_size,
    }


def _rows(network: PrunableNetwork, data: DataSource, feed: Feed) -> Iterator[tuple[np.ndarray, ...]]:
    """Single training samples as the file reads them; those of other sizes than it has are left out."""
    seen = 0
    for batch in data.train.ordered(_BATCH):
        for arguments in as_traced(network, [feed.arguments(batch).args]):
            tensors = [t for t in tree_leaves(arguments) if isinstance(t, Tensor)]
            for i in range(len(tensors[0])):
                if seen == CALIBRATION_SAMPLES:
                    return
                seen += 1
                yield tuple(t[i : i + 1].cpu().numpy() for t in tensors)


def _headline(file: OnnxNetwork, data: DataSource, feed: Feed, dense: nn.Module) -> float:
    from dtp_edge.training.evaluate import evaluate

    return evaluate(file, data.test, _BATCH, feed=feed, teacher=dense)
