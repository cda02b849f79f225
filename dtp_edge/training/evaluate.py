"""The objective's metric on a split, and whether a network fits its data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dtp_edge.errors import InputError
from dtp_edge.graph import mode_of
from dtp_edge.training.data.source import DataSource, Split
from dtp_edge.training.feed import Feed, line_of, telling
from dtp_edge.training.objectives import nests
from dtp_edge.training.objectives.base import Objective
from dtp_edge.training.objectives.classification import class_logits as class_logits
from dtp_edge.training.runtime import device_of

NO_INTERVAL = "the metric does not say how sure its number is"
HINT = "Train such a network in your own loop with TransportPruner, or leave --data out."


@dataclass(frozen=True)
class Score:
    """The headline on a split, and its 95 % interval; `why_none` says why there is none."""

    value: float
    interval: tuple[float, float] | None = None
    why_none: str = ""


def evaluate(
    module: nn.Module,
    split: Split,
    batch_size: int = 500,
    runtime: Any = None,
    feed: Feed | None = None,
    teacher: nn.Module | None = None,
) -> float:
    """Return the headline of `module` on a split: of a classifier the share that is right, in 0..1."""
    return score(module, split, batch_size, runtime, feed, teacher, sure=False).value


@torch.no_grad()
def score(
    module: nn.Module,
    split: Split,
    batch_size: int = 500,
    runtime: Any = None,
    feed: Feed | None = None,
    teacher: nn.Module | None = None,
    *,
    sure: bool = True,
) -> Score:
    """Return how `module` does on a split by the objective's metric, `sure` with its interval.

    The module's mode is restored.

    With a `runtime` of several processes each scores its part, if the metric can be merged; all get the
    whole's answer. Without labels, what `teacher` puts out is what is wanted.
    """
    feed = Feed() if feed is None else feed
    metric = fresh_metric(feed.objective)
    shared = hasattr(metric, "merge") and hasattr(metric, "state")
    several = runtime if shared else None  # processes that take turns
    rank, world = (0, 1) if several is None else (several.rank, several.world)
    with mode_of(module, training=False):
        for i, batch in enumerate(split.ordered(batch_size)):
            if i % world == rank:
                update(metric, feed, module, batch, teacher)
    if several is not None and world > 1:
        states, metric = several.gathered(metric.state()), fresh_metric(feed.objective)
        with telling("metric", feed.objective):
            metric.merge(states)
    return result(metric, feed.objective, sure=sure)


def fresh_metric(objective: Objective) -> Any:
    """Return a metric that has seen nothing."""
    with telling("metric", objective):
        return objective.metric()


@torch.no_grad()
def update(metric: Any, feed: Feed, module: nn.Module, batch: Any, teacher: nn.Module | None = None) -> Any:
    """Run a batch and show it to the metric; return the outputs, on the CPU in float32."""
    device = device_of(module)
    outputs = nests.in_float32(nests.moved(feed.run(module, batch, device), "cpu"))
    if not feed.objective.labelled:
        if teacher is None:
            raise InputError(
                "without labels a network is judged by the dense one, and none was given",
                where=feed.objective.name,
                hint="Give evaluate a teacher.",
            )
        with mode_of(teacher, training=False):
            batch = nests.in_float32(nests.moved(feed.run(teacher, batch, device), "cpu"))
    with telling("metric", feed.objective):
        metric.update(outputs, batch)
    return outputs


def result(metric: Any, objective: Objective, *, sure: bool = True) -> Score:
    """Return what a metric amounts to, `sure` with its interval; `InputError` where it is no number."""
    with telling("metric", objective):
        value = float(metric.compute())
        interval = metric.interval() if sure and hasattr(metric, "interval") else None
    if math.isnan(value):
        raise InputError(
            f"the metric ({objective.headline.name}) is not a number",
            where=line_of(type(metric).compute),
            hint="Let the metric be finite whatever the network puts out.",
        )
    why = getattr(metric, "why_no_interval", NO_INTERVAL) if interval is None else ""
    return Score(value, interval, why)


def check_compatible(
    data: DataSource, module: nn.Module, example_inputs: tuple[Any, ...], objective: Objective | None = None
) -> None:
    """Raise `InputError` unless `module` fits this data, as the objective sees it: a classifier if None."""
    objective = Feed().objective if objective is None else objective
    one = len(example_inputs) == 1 and isinstance(example_inputs[0], torch.Tensor)
    if data.input_shape and not one:
        raise InputError(
            "training reads one image tensor an example; this network has other inputs", hint=HINT
        )
    if data.input_shape:
        data.check_fits(None, tuple(example_inputs[0].shape[1:]))
    with torch.no_grad(), mode_of(module, training=False), telling("refuse", objective):
        objective.refuse(data, module(*example_inputs))
