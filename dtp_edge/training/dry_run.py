"""One batch of each split goes through everything before training: what does not fit is told now."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.errors import DtpEdgeError, InputError, first_line, users_line
from dtp_edge.graph import mode_of
from dtp_edge.training.checkpoint import rng_tensors, set_rng
from dtp_edge.training.evaluate import fresh_metric, update
from dtp_edge.training.feed import HINT, Feed, line_of, telling
from dtp_edge.training.loss import distance
from dtp_edge.training.objectives import nests
from dtp_edge.training.phase import Session
from dtp_edge.training.runtime import device_of, move

__all__ = ["rehearse"]


def rehearse(network: nn.Module, session: Session) -> None:
    """Raise `InputError` where data, network and objective do not fit; random states and weights stay.

    Where nothing of the outputs compares with the dense network's, the session's warnings say so.
    """
    kept, copied = rng_tensors(), move(copy.deepcopy(network), session.runtime.device)
    try:
        _learn(copied, session)
        _judge(copied, session)
    finally:
        set_rng(kept)


def _learn(network: nn.Module, session: Session) -> None:
    """A batch forth and back."""
    feed, recipe, data = session.feed, session.recipe, session.data
    device = device_of(network)
    batch = nests.moved(_first(data.train.shuffled(recipe.batch_size, seed=0, epoch=0), "training"), device)
    feed.arguments(batch)
    with telling("parts", feed.objective):
        size, parts = feed.objective.size(batch), feed.objective.parts(batch, recipe.accumulate)
    if size < 1:
        raise InputError(
            "the objective finds no sample in a batch",
            where=line_of(type(feed.objective).size),
            hint="Return the number of samples from `size(batch)`.",
        )
    with mode_of(network, training=True):
        outputs = _forward(feed, network, parts[0])
    with torch.no_grad(), mode_of(network, training=False):
        taught = _forward(feed, network, parts[0])
    outputs, taught = nests.in_float32(outputs), nests.in_float32(taught)
    loss = feed.loss(outputs, parts[0] if feed.objective.labelled else taught)
    if not math.isfinite(float(loss.detach())):
        raise InputError(
            f"the loss of the first batch is {float(loss.detach())}",
            where=line_of(type(feed.objective).loss),
            hint="Return a finite number; check the targets, logarithms and divisions.",
        )
    _backward(loss, feed)
    if feed.objective.labelled and feed.host is None:
        feed.worth(taught, parts[0])
    _compares(outputs, taught, session)


def _backward(loss: Tensor, feed: Feed) -> None:
    if not loss.requires_grad:
        raise InputError(
            "no gradient flows from the loss to the network",
            where=line_of(type(feed.objective).loss),
            hint="Compute it of the outputs, without detach(), item() or numpy.",
        )
    with telling("loss", feed.objective):
        loss.backward()


def _compares(outputs: Any, taught: Any, session: Session) -> None:
    feed, recipe = session.feed, session.recipe
    if not recipe.distill or not feed.objective.labelled:
        return
    with telling("distance", feed.objective):
        found = distance(feed.objective, outputs, taught, recipe.temperature)
    if found is None:
        session.warnings.append(
            "Nothing that the network puts out in training compares with the dense one's outputs: "
            "they are not distilled."
        )


def _judge(network: nn.Module, session: Session) -> None:
    """A batch of the hold-out through the metric; the test set is read at the end only."""
    feed, metric = session.feed, fresh_metric(session.feed.objective)
    batch = _first(session.data.holdout.ordered(session.recipe.batch_size), "hold-out")
    with mode_of(network, training=False):
        outputs = update(metric, feed, network, batch, network)
    with telling("refuse", feed.objective):
        feed.objective.refuse(session.data, outputs)
    with telling("metric", feed.objective):
        float(metric.compute())


def _first(batches: Any, name: str) -> Any:
    for batch in batches:
        return batch
    raise InputError(f"the {name} split has no batch", where="data", hint="Give it one sample at least.")


def _forward(feed: Feed, network: nn.Module, batch: Any) -> Any:
    try:
        return feed.run(network, batch)
    except (DtpEdgeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        shapes = ", ".join(str(list(t.shape)) for t in feed.arguments(batch).args if isinstance(t, Tensor))
        raise InputError(
            f"the network cannot read a batch of the data ({shapes}): {first_line(error, kind=True)}",
            where=users_line(error) or "data",
            hint=f"Its inputs are what `inputs` of the objective returns. {HINT}",
        ) from error
