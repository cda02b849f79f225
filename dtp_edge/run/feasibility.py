"""What a budget asks of each device, and whether it can be had, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from dtp_edge.cost.outside import most_outside, outside_text
from dtp_edge.cost.planners import planner_of
from dtp_edge.errors import InputError
from dtp_edge.graph.arguments import ExampleInputs, example_arguments
from dtp_edge.measure import load_profile
from dtp_edge.profiles import Profile
from dtp_edge.run.task import Task
from dtp_edge.run.traced import traced_for
from dtp_edge.transport import Budget, initial_scores

__all__ = ["feasibility"]


def feasibility(
    model: nn.Module,
    example_inputs: ExampleInputs,
    devices: Sequence[str],
    budget: Budget,
    *,
    exclude: Sequence[str] = (),
    depth: bool = False,
    part: str | None = None,
    ram_by: str | None = None,
) -> list[dict[str, Any]]:
    """Return one entry a device: `device, feasible, rows, error_text, expected, widths, warnings`; of several
    devices that cannot cost the network has the reason as `refused`.

    `rows` are `transport.feasibility`'s; `expected` the predicted costs of the widths that one-shot
    scores choose (training moves channels between layers, the budget stays). With `depth` branches may go;
    with `part` only that submodule is priced. RAM is what the runtime `ram_by` sets aside, if one is
    named.
    """
    profiles = [load_profile(name) for name in devices]  # an unknown name is refused before tracing
    planner = None if ram_by is None else planner_of(ram_by)
    inputs = example_arguments(model, example_inputs)
    found = traced_for(model, inputs, exclude, depth=depth, part=part)
    network = found.network
    scores = initial_scores(network)
    entries = []
    for profile in profiles:
        try:
            task = Task.of_traced(found, profile, budget, planner)
        except InputError as error:
            if len(profiles) == 1:
                raise
            entries.append(
                _refused(profile, error)
            )  # one that cannot cost the network does not hide the others
            continue
        cost, rows = task.cost, task.feasibility()
        feasible = all(bool(row["feasible"]) for row in rows)
        entry: dict[str, Any] = {
            "device": profile.name,
            "feasible": feasible,
            "rows": rows,
            "error_text": profile.error_text,
            "expected": {},
            "widths": {},
        }
        at = [cost.dense_sizes()]
        if feasible:
            keep = task.harden(scores)
            at.append(network.layers.sizes(keep.astype(float)))
            final = cost.evaluate(at[-1])
            entry["expected"] = {metric: final[metric] for metric in cost.metrics}
            entry["expected"] |= {metric: now for metric, (_, _, now) in task.keep_ratios(keep).items()}
            entry["widths"] = network.widths(keep)
        text = outside_text(most_outside(cost, *at), profile.name)
        entries.append(entry | {"warnings": [text] if text else []})
    return entries


def _refused(profile: Profile, error: InputError) -> dict[str, Any]:
    entry: dict[str, Any] = {"device": profile.name, "feasible": False, "rows": [], "refused": error.what}
    return entry | {"error_text": profile.error_text, "expected": {}, "widths": {}, "warnings": []}
