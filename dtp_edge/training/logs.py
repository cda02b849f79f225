"""Where the curve of a run goes: a CSV file, TensorBoard, several places at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.files import write_text
from dtp_edge.training.phase import Progress, Row

_FIRST = (
    "phase", "step", "loss", "accuracy", "holdout_accuracy", "holdout_metric", "learning_rate", "softness",
    "budget_used",
)  # fmt: skip
_RENAMED = {"hardness": "softness", "kept": "mean_mask"}  # since 0.2


def write_csv(path: Path, rows: Iterable[Row]) -> Path:
    """Write a run's curve, a row a step, nested numbers as `costs.latency_ms`; replaced atomically."""
    flat = [flatten(row) for row in rows]
    found = dict.fromkeys(key for row in flat for key in row)
    columns = [c for c in _FIRST if c in found] + [c for c in found if c not in _FIRST]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(flat)
    return write_text(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a curve as text, a column a key; columns of older versions under today's names."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{_RENAMED.get(key, key): value for key, value in row.items()} for row in rows]


def flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


class TensorBoardLog:
    """A progress callback that writes every number of a step as a scalar `phase/name`."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError("TensorBoard is not installed", hint='pip install "dtp-edge[train]"') from error
        self._writer = SummaryWriter(str(folder))

    def __call__(self, phase: str, done: int, total: int, info: Mapping[str, Any]) -> None:
        for name, value in flatten(info).items():
            if isinstance(value, (int, float)) and name != "step":
                self._writer.add_scalar(f"{phase}/{name}", value, done)
        if done == total:
            self._writer.flush()


class Several:
    """A progress callback that passes each step on to all of its own."""

    def __init__(self, *callbacks: Progress) -> None:
        self._callbacks = callbacks

    def __call__(self, phase: str, done: int, total: int, info: Mapping[str, Any]) -> None:
        for callback in self._callbacks:
            callback(phase, done, total, info)
