"""A sweep that takes seconds: a small network on points, and cells that end as a test wants them to."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.sweeps.common import Outcome, Subject
from dtp_edge.sweeps.engines import Work
from dtp_edge.sweeps.grid import USUAL, Cell, Grid
from dtp_edge.training import DataSource, Recipe, from_arrays
from dtp_edge.transport import Budget

DEVICES = ("rpi4-ncnn-fp32-1t", "rpi5-ncnn-fp16-1t")


class PointNet(nn.Module):
    """`[B, 1, 2, 3] -> [B, 3]`, with batch norm, as its state must be put back between cells."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


def points(seed: int = 0) -> DataSource:
    """Three clouds of points, as pictures of 2 by 3."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(480) % 3
    middles = 60 + 130 * torch.rand(3, 1, 2, 3, generator=draw)
    x = (middles[labels] + 35 * torch.randn(480, 1, 2, 3, generator=draw)).clamp(0, 255).to(torch.uint8)
    return from_arrays("points", (x[:360], labels[:360]), (x[360:], labels[360:]))


def subject(**options: Any) -> Subject:
    from dtp_edge.run.options import Options

    torch.manual_seed(3)
    recipe = Recipe(base_epochs=2, mask_epochs=2, tune_epochs=2, batch_size=32)
    given: dict[str, Any] = {"data": points(), "recipe": recipe} | options
    return Subject(PointNet(), torch.zeros(1, 1, 2, 3), Options(budget=Budget(macs="50%"), **given))


def small_grid(*budgets: str, recipes: dict[str, Any] | None = None) -> Grid:
    return Grid(DEVICES, tuple(Budget(macs=one) for one in budgets), recipes or {USUAL: {}})


@dataclass(frozen=True)
class Acted:
    """Cells that are played: `acts` says of each what happens; each begin is noted in the folder."""

    folder: Path
    acts: dict[str, str]

    def run(self, cell: Cell, *, deadline: float | None = None, also: Any = None) -> Outcome:
        begun = self.folder / f"begun-{cell.id}-{time.time_ns()}"
        begun.write_text(str(os.getpid()))
        act = self.acts.get(cell.id, "")
        times = len(list(self.folder.glob(f"begun-{cell.id}-*")))
        if act == "dies always" or (act == "dies once" and times == 1):
            os._exit(9)
        if act == "waits":
            time.sleep(60)
        while act == "until told" and not (self.folder / "go").exists():
            time.sleep(0.05)
        return {"state": "done", "pid": os.getpid(), "parent": cell.parent}


@dataclass(frozen=True)
class Played(Work):
    """Work whose cells are played."""

    acts: dict[str, str] = field(default_factory=dict)

    def common(self) -> Any:
        return Acted(self.folder, self.acts)
