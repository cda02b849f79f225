"""Batch norm's running statistics, estimated anew after surgery: in modules and in graphs of operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtp_edge.training.data.source import DataSource
from dtp_edge.training.evaluate import mode_of

_NORM = torch.ops.aten.batch_norm.default
_NAMES = [a.name for a in _NORM._schema.arguments]


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
    if isinstance(module, fx.GraphModule):
        walk, count = _Walk(module), sum(node.target is _NORM for node in module.graph.nodes)
        return _averaged(walk, data, batches, batch_size, seed) if count else 0
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
        for i, (x, _) in enumerate(data.train.shuffled(batch_size, seed=seed, epoch=0)):
            if i == batches:
                break
            module(x.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return len(norms)


def _averaged(walk: _Walk, data: DataSource, batches: int, batch_size: int, seed: int) -> int:
    device = next(iter(walk.module.parameters())).device
    with mode_of(walk.module, training=False):
        for i, (x, _) in enumerate(data.train.shuffled(batch_size, seed=seed, epoch=0)):
            if i == batches:
                break
            walk.momentum = 1 / (i + 1)  # the first batch replaces what was there; then a plain average
            walk.renewed.clear()
            walk.run(x.to(device))
    return len(walk.renewed)


class _Walk(fx.Interpreter):
    """Runs a graph in evaluation, its batch norms with running statistics in training."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.momentum = 1.0
        self.renewed: set[int] = set()

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is not _NORM:
            return super().call_function(target, args, kwargs)
        given = dict(zip(_NAMES, args, strict=False)) | kwargs
        mean = given["running_mean"]
        if isinstance(mean, Tensor):
            given |= {"training": True, "momentum": self.momentum}
            self.renewed.add(mean.data_ptr())
        return target(*(given[name] for name in _NAMES))
