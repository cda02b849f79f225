"""A task that is no classification: pictures with any number of boxes each, found by their centres.

Batches are dicts with a list of boxes of different lengths, the network has keyword inputs and a dict of
outputs, and the metric is one of this file's own: all that an own objective can bring.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.training import DataSource, Headline, Objective, Recipe
from dtp_edge.training.data.dataset_split import DatasetSplit

SIZE, SIDE, CELL = 24, 8, 4


class Boxes(torch.utils.data.Dataset):
    """Pictures of noise with squares in them; the boxes are `[k, 4]`, k from 0 to 3."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Tensor]:
        row = index[0] if isinstance(index, tuple) else index
        draw = torch.Generator().manual_seed(1000 * self.seed + row)
        boxes = torch.zeros(int(torch.randint(0, 4, (1,), generator=draw)), 4)
        image = 0.1 * torch.randn(1, SIZE, SIZE, generator=draw)
        for i in range(len(boxes)):
            x, y = torch.randint(0, SIZE - SIDE, (2,), generator=draw).tolist()
            image[0, y : y + SIDE, x : x + SIDE] += 1
            boxes[i] = torch.tensor([x, y, x + SIDE, y + SIDE])
        return {"image": image, "boxes": boxes}


def collate(samples: list[dict[str, Tensor]]) -> dict[str, Any]:
    return {"image": torch.stack([s["image"] for s in samples]), "boxes": [s["boxes"] for s in samples]}


class HeatNet(nn.Module):
    """`pixels [B, 1, 24, 24]` by keyword -> `{"heat": [B, 6, 6]}`; batch norm, dropout, an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.05))
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.heat = nn.Conv2d(16, 1, 1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        x = self.body(self.stem(pixels))
        return {"heat": self.heat(x + self.block(x))[:, 0]}


def wanted(batch: dict[str, Any], like: Tensor) -> Tensor:
    """1 in every cell that holds a centre."""
    heat = torch.zeros_like(like)
    for row, boxes in zip(heat, batch["boxes"], strict=True):
        for x0, y0, x1, y1 in boxes.tolist():
            row[int((y0 + y1) / 2 / CELL), int((x0 + x1) / 2 / CELL)] = 1
    return heat


class MissedCells:
    """The mean absolute error of the cells: lower is better, in a unit of its own."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64)

    def update(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> None:
        gap = (outputs["heat"].sigmoid() - wanted(batch, outputs["heat"])).abs()
        self.sums += torch.tensor([float(gap.sum()), float(gap.numel())])

    def state(self) -> Tensor:
        return self.sums

    def merge(self, states: list[Tensor]) -> None:
        for sums in states:
            self.sums += sums

    def compute(self) -> float:
        return 36 * float(self.sums[0] / self.sums[1])

    def interval(self) -> tuple[float, float]:
        return 0.9 * self.compute(), 1.1 * self.compute()


class Centres(Objective):
    name = "centres"
    headline = Headline("missed cells", unit="cells", higher_is_better=False, decimals=3)

    def settings(self) -> dict[str, Any]:
        return {"cell": CELL}

    def inputs(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"pixels": batch["image"]}

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> Tensor:
        weight = torch.tensor(8.0, device=outputs["heat"].device)
        heat = outputs["heat"]
        return nn.functional.binary_cross_entropy_with_logits(heat, wanted(batch, heat), pos_weight=weight)

    def metric(self) -> MissedCells:
        return MissedCells()


def boxes_data(objective: Objective | None = None, train: int = 160) -> DataSource:
    learn, rows = Boxes(train, 1), torch.arange(train)
    return DataSource(
        "boxes", None, (), (), (),
        DatasetSplit(learn, rows[32:], augments=True, collate=collate),
        DatasetSplit(learn, rows[:32], collate=collate),
        DatasetSplit(Boxes(48, 2), torch.arange(48), collate=collate),
        objective=Centres() if objective is None else objective,
    )  # fmt: skip


def boxes_recipe(**changes: Any) -> Recipe:
    given = {"base_epochs": 3, "mask_epochs": 2, "tune_epochs": 2, "batch_size": 32, "accumulate": 2}
    return Recipe(**(given | changes))


def boxes_run(out: Path | None, data: DataSource | None = None, **options: Any) -> dtp.PruneResult:
    torch.manual_seed(0)
    given: dict[str, Any] = {"recipe": boxes_recipe(), "budget": dtp.Budget(macs="50%")}
    return dtp.prune_for_device(
        HeatNet(),
        {"pixels": torch.zeros(1, 1, SIZE, SIZE)},
        device="stm32h747-cubeai-int8",
        data=boxes_data() if data is None else data,
        out=out,
        **(given | options),
    )


def figures(result: dtp.PruneResult) -> dict[str, Any]:
    """What must be the same, bit for bit, when a run was interrupted and resumed."""
    state = result.module.state_dict()
    return {
        "accuracy": {k: v for k, v in result.report["accuracy"].items() if k != "intervals"},
        "widths": result.widths,
        "weights": {k: v.numpy().tobytes().hex()[:200] for k, v in state.items()},
        "losses": [row.get("loss") for row in result.report["curves"]],
    }
