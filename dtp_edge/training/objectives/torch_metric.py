"""A metric of torchmetrics as an objective's: none is written by hand here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dtp_edge.errors import InputError

__all__ = ["TorchMetric", "torchmetrics"]


def torchmetrics() -> Any:
    """Return the package; `InputError` with what to install where it is absent."""
    try:
        import torchmetrics
    except ImportError as error:
        raise InputError(
            "this objective is judged by torchmetrics, which is not installed",
            hint='pip install "dtp-edge[tasks]"',
        ) from error
    return torchmetrics


class TorchMetric:
    """`pick(outputs, batch)` are the arguments of `metric.update`, of its `compute()` `key` is the headline.

    `interval(metric)` may say how sure it is.
    """

    def __init__(
        self,
        metric: Any,
        pick: Callable[[Any, Any], tuple[Any, ...]],
        key: str | None = None,
        interval: Callable[[Any], tuple[float, float] | None] | None = None,
    ) -> None:
        metric.sync_on_compute = False  # the processes are joined by `merge`, or each sees all
        self.metric, self.pick, self.key, self._interval = metric, pick, key, interval
        if metric.full_state_update is False and not metric.dist_sync_on_step:
            self.state, self.merge = self._state, self._merge

    def update(self, outputs: Any, batch: Any) -> None:
        self.metric.update(*self.pick(outputs, batch))

    def compute(self) -> float:
        found = self.metric.compute()
        return float(found if self.key is None else found[self.key])

    def interval(self) -> tuple[float, float] | None:
        return None if self._interval is None else self._interval(self.metric)

    def _state(self) -> Any:
        return self.metric

    def _merge(self, states: Sequence[Any]) -> None:
        for other in states:
            self.metric.merge_state(other)
