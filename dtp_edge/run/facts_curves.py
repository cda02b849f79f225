"""What happened during training, as the few hundred points that a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import PrunableNetwork
from dtp_edge.metrics import HELD_OUT

MAX_POINTS = 400
_BACK = "went_back_from"


def curve_rows(
    training: Any, network: PrunableNetwork, cost: NetworkCost, limits: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the curves of a run that had data, thinned; every scored step stays, and every one gone back to.

    Cost and falling budget are shares of the dense network, in the metric that binds at the end of the
    mask phase. Softness is 4 mean m(1-m): 0 when all masks are hard. Accuracy is that of the
    hold-out where the run took one.
    """
    if training is None:
        return []
    points: Sequence[Mapping[str, Any]] = training.curves
    scored = next((key for key in HELD_OUT if any(key in p for p in points)), "accuracy")
    stride = max(1, -(-len(points) // MAX_POINTS))
    few = scored in HELD_OUT
    chosen = [p for i, p in enumerate(points) if i % stride == 0 or (few and scored in p) or _BACK in p]
    metric = _binding(points, limits)
    dense = cost.evaluate(cost.dense_sizes()).get(metric or "")
    return [_row(point, scored, metric, dense, max(network.n_atoms, 1)) for point in chosen]


def _row(
    point: Mapping[str, Any], scored: str, metric: str | None, dense: float | None, n_atoms: int
) -> dict[str, Any]:
    row = {"step": point["step"], "phase": point["phase"], "loss": point.get("loss")}
    row["accuracy"], row[_BACK] = point.get(scored), point.get(_BACK)
    softness = point.get("softness", point.get("hardness"))  # what a checkpoint of 0.1 calls it
    row["softness_fraction"] = None if softness is None else 4.0 * softness / n_atoms
    for key, source in (("budget_fraction", "costs"), ("target_fraction", "budget_now")):
        value = (point.get(source) or {}).get(metric)
        row[key] = value / dense if value is not None and dense else None
    return {key: value for key, value in row.items() if value is not None}


def _binding(points: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> str | None:
    """Return the metric that used most of its limit when the masks were last priced."""
    last = next((p["costs"] for p in reversed(points) if p.get("costs")), {})
    used = {m: value / limits[m] for m, value in last.items() if limits.get(m)}
    return max(used, key=used.__getitem__, default=None)
