"""Batch norm's running statistics, estimated anew after surgery: in modules and in graphs of operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtp_edge.graph import mode_of
from dtp_edge.training.data.source import DataSource

_NORM = torch.ops.aten.batch_norm.default
_NAMES = [a.name for a in _NORM._schema.arguments]  # none has a default: all are positional
_MEAN, _TRAINING = _NAMES.index("running_mean"), _NAMES.index("training")


@torch.no_grad()
def recalibrate(
    module: nn.Module, data: DataSource, batches: int, batch_size: int = 128, seed: int = 0
) -> int:
    """Replace batch norm's running statistics by plain averages over some training batches.

    Surgery moves the statistics of everything after a cut. Returns how many norms were re-estimated. A
    graph is walked operator by operator and stays in evaluation but for its batch norms.
    """
    if batches < 1:
        return 0
    shuffled = data.train.shuffled(batch_size, seed=seed, epoch=0)
    return renew(module, (x for x, _ in itertools.islice(shuffled, batches)))


@torch.no_grad()
def renew(module: nn.Module, images: Iterable[Tensor]) -> int:
    """Replace batch norm's running statistics by plain averages over batches; return how many were."""
    if isinstance(module, fx.GraphModule):
        return _renew_graph(module, images)
    return _renew_module(module, images)


def _renew_module(module: nn.Module, images: Iterable[Tensor]) -> int:
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches since the reset
    device = next(module.parameters()).device
    with mode_of(module, training=True):
        for part in module.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.eval()  # the statistics are those of inference
        for x in images:
            module(x.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return len(norms)


def _renew_graph(module: fx.GraphModule, images: Iterable[Tensor]) -> int:
    read = [node.args[_MEAN] for node in module.graph.nodes if node.target is _NORM]
    means = {mean.target for mean in read if isinstance(mean, fx.Node)}
    if not means:
        return 0
    walk, device = _Walk(module), next(module.parameters()).device
    with mode_of(module, training=False):
        for i, x in enumerate(images):
            walk.momentum = 1 / (i + 1)  # the first batch replaces what was there; then a plain average
            walk.run(x.to(device))
    return len(means)


class _Walk(fx.Interpreter):
    """Runs a graph in evaluation, its batch norms with running statistics in training."""

    momentum = 1.0

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is _NORM and isinstance(args[_MEAN], Tensor):
            args = (*args[:_TRAINING], True, self.momentum, *args[_TRAINING + 2 :])
        return super().call_function(target, args, kwargs)
