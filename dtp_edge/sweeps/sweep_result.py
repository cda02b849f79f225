"""What a finished sweep hands back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtp_edge.report import read_report

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CellResult", "SweepResult"]


@dataclass(frozen=True)
class CellResult:
    """A finished cell, read from its folder `out` when it is asked for."""

    out: Path

    @cached_property
    def report(self) -> dict[str, Any]:
        """What the cell's `report.json` holds."""
        return read_report(self.out)

    @property
    def onnx(self) -> Path:
        return self.out / "model.onnx"

    @property
    def module(self) -> nn.Module:
        """The compact network, loaded anew."""
        from dtp_edge.archive import load_pruned

        return load_pruned(self.out)


@dataclass(frozen=True)
class Results(Mapping[str, CellResult]):
    folders: Mapping[str, Path]

    def __getitem__(self, name: str) -> CellResult:
        return CellResult(self.folders[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.folders)

    def __len__(self) -> int:
        return len(self.folders)


@dataclass(frozen=True)
class SweepResult:
    """**Attributes:**

    - `rows`: one a cell: `id`, `device`, `budget`, `recipe`, `state` (done, refused, failed, stopped),
      `reason`, and of finished ones `predicted` (`{metric: value}`), `measured_ms`, `accuracy`, `on_devices`.
    - `results`: `{cell id: CellResult}` of those that are done, each with `report`, `module`, `onnx`.
    - `out`: the folder, with `sweep.html` and `sweep.json`.
    """

    rows: list[dict[str, Any]]
    out: Path
    results: Mapping[str, CellResult] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: list[dict[str, Any]], out: Path) -> SweepResult:
        from dtp_edge.sweeps.cell_folder import cell_folder

        done = {row["id"]: cell_folder(out, row["id"]) for row in rows if row["state"] == "done"}
        return cls(rows, out, Results(done))
