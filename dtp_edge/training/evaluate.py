"""Accuracy on a split, and whether a network is a classifier for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import InputError
from dtp_edge.graph import mode_of
from dtp_edge.training.data.source import DataSource, Split

HINT = "Train such a network in your own loop with TransportPruner, or leave --data out."


@torch.no_grad()
def evaluate(module: nn.Module, split: Split, batch_size: int = 500, runtime: Any = None) -> float:
    """Share of a split that `module` classifies right, in 0..1. The module's mode is restored.

    With a `runtime` of several processes each scores its part; all get the whole's answer.
    """
    rank, world = (0, 1) if runtime is None else (runtime.rank, runtime.world)
    device = next((t.device for t in module.state_dict().values()), torch.device("cpu"))
    counts = torch.zeros(2, dtype=torch.float64)
    with mode_of(module, training=False):
        for i, (x, y) in enumerate(split.ordered(batch_size)):
            if i % world == rank:
                logits = class_logits(module(x.to(device)))
                counts += torch.tensor([float((logits.argmax(1).cpu() == y).sum()), float(len(y))])
    if runtime is not None and world > 1:
        counts = runtime.sum(counts)
    return float(counts[0] / counts[1])


def class_logits(out: Any) -> Tensor:
    """The `[B, classes]` tensor in what a classifier returns."""
    if not isinstance(out, Tensor) and hasattr(out, "logits"):
        out = out.logits  # inception and googlenet in training, and language models
    if isinstance(out, (tuple, list)) and out:
        out = out[0]
    if not isinstance(out, Tensor) or out.ndim != 2:
        shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(
            f"training needs a classifier whose output is [batch, classes]; this network returns {shape}",
            hint="Use dtp_edge.TransportPruner in your own training loop, or prune without data.",
        )
    return out


def check_compatible(data: DataSource, module: nn.Module, example_inputs: tuple[Any, ...]) -> None:
    """Raise `InputError` unless `module` is a classifier for this data's images and classes."""
    if len(example_inputs) != 1 or not isinstance(example_inputs[0], Tensor):
        raise InputError(
            "training reads one image tensor an example; this network has other inputs", hint=HINT
        )
    data.check_fits(None, tuple(example_inputs[0].shape[1:]))
    with torch.no_grad(), mode_of(module, training=False):
        classes = class_logits(module(*example_inputs)).shape[1]
    data.check_fits(classes, data.input_shape)
