"""Batch norm's running statistics, estimated anew after surgery: in modules and in graphs of operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtp_edge.graph import mode_of
from dtp_edge.training.data.source import DataSource
from dtp_edge.training.feed import Feed

_NORM = torch.ops.aten.batch_norm.default
_NAMES = [a.name for a in _NORM._schema.arguments]  # none has a default: all are positional
_MEAN, _TRAINING = _NAMES.index("running_mean"), _NAMES.index("training")


@torch.no_grad()
def recalibrate(
    module: nn.Module,
    data: DataSource,
    batches: int,
    batch_size: int = 128,
    seed: int = 0,
    feed: Feed | None = None,
) -> int:
    """Replace batch norm's running statistics by plain averages over some training batches.

    Surgery moves the statistics of everything after a cut. Returns how many norms were re-estimated. A
    graph is walked operator by operator and stays in evaluation but for its batch norms.
    """
    if batches < 1:
        return 0
    shuffled = data.train.shuffled(batch_size, seed=seed, epoch=0)
    return renew(module, itertools.islice(shuffled, batches), Feed() if feed is None else feed)


@torch.no_grad()
def renew(module: nn.Module, batches: Iterable[Any], feed: Feed) -> int:
    """Replace batch norm's running statistics by plain averages over batches; return how many were."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    walks = [_Walk(m) for m in module.modules() if isinstance(m, fx.GraphModule) and _means(m)]
    if not norms and not walks:
        return 0
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches since the reset
    device = next(module.parameters()).device
    with mode_of(module, training=True), _walking(walks):
        for part in module.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.eval()  # the statistics are those of inference
        for i, batch in enumerate(batches):
            for walk in walks:
                walk.momentum = 1 / (i + 1)  # the first batch replaces what was there; then a plain average
            feed.run(module, batch, device)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return len(norms) + sum(len(_means(walk.graph_module)) for walk in walks)


def _means(module: fx.GraphModule) -> set[str]:
    read = [node.args[_MEAN] for node in module.graph.nodes if node.target is _NORM]
    return {str(mean.target) for mean in read if isinstance(mean, fx.Node)}


@contextmanager
def _walking(walks: list[_Walk]) -> Iterator[None]:
    """Inside, the graphs run operator by operator, in evaluation but for their batch norms."""
    for walk in walks:
        walk.graph_module.eval()
        walk.graph_module.forward = walk.run
    try:
        yield
    finally:
        for walk in walks:
            vars(walk.graph_module).pop("forward", None)


class _Walk(fx.Interpreter):
    """Runs a graph in evaluation, its batch norms with running statistics in training."""

    momentum = 1.0

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.graph_module = module

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is _NORM and isinstance(args[_MEAN], Tensor):
            args = (*args[:_TRAINING], True, self.momentum, *args[_TRAINING + 2 :])
        return super().call_function(target, args, kwargs)
