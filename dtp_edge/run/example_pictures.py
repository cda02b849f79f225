"""A few hold-out samples with what the dense and the pruned network say of them, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dtp_edge.errors import first_line
from dtp_edge.graph import mode_of
from dtp_edge.graph.leaves import batch_of
from dtp_edge.run.proved import Cut
from dtp_edge.training.feed import Feed
from dtp_edge.training.objectives import nests
from dtp_edge.training.objectives.drawing import data_uri

if TYPE_CHECKING:
    from dtp_edge.training import DataSource

__all__ = ["example_pictures"]

SAMPLES = 4


def example_pictures(cut: Cut, data: DataSource) -> tuple[dict[str, Any] | None, list[str]]:
    """Return what the report shows, None where the objective draws nothing, and warnings.

    Drawing is no part of the result: what goes wrong there is told and stops no run.
    """
    training = cut.training
    if training is None or training.control is None:
        return None, []
    objective, task = training.objective, cut.task
    feed = Feed(objective, task.network.module, task.whole)
    pruned = training.module if training.whole is None else training.whole
    count = SAMPLES if task.network.dynamic_batch else batch_of(task.network.example_inputs) or 1
    try:
        batch = next(iter(data.holdout.ordered(count)))
        columns = {"wanted": objective.pictures(None, batch, data)}
        if not columns["wanted"]:
            return None, []
        for name, network in (("dense", training.control), ("pruned", pruned)):
            with torch.no_grad(), mode_of(network, training=False):
                outputs = nests.in_float32(feed.run(network, batch, torch.device("cpu")))
            columns[name] = objective.pictures(outputs, batch, data)
        rows = zip(*(column[:SAMPLES] for column in columns.values()), strict=True)  # type: ignore[index]
        drawn = [{n: data_uri(one) for n, one in zip(columns, row, strict=True)} for row in rows]
    except Exception as error:  # the objective may be the user's own
        return None, [f"No pictures were drawn: {first_line(error, kind=True)}."]
    return {"split": "hold-out", "rows": drawn}, []
