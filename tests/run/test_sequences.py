"""Sequences of different lengths, each batch padded to its own longest, with the lengths as an input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dtp_edge as dtp
from dtp_edge.errors import InputError
from dtp_edge.training import DataSource, Headline, Objective, Recipe
from dtp_edge.training.data.dataset_split import DatasetSplit

LONGEST = 16


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(4, 24, 3, padding=1), nn.Conv1d(24, 24, 3, padding=1)
        self.last = nn.Linear(24, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        x = self.second(self.first(x).relu()).relu()
        inside = (torch.arange(x.shape[-1], device=x.device) < lengths[:, None]).float()[:, None]
        return {"logits": self.last((x * inside).sum(-1) / lengths[:, None])}


def row(index: int) -> tuple[Tensor, int]:
    draw = torch.Generator().manual_seed(index)
    x = 0.5 * torch.randn(4, int(torch.randint(5, LONGEST + 1, (1,), generator=draw)), generator=draw)
    x[index % 3] += 1
    return x, index % 3


def collate(samples: list[tuple[Tensor, int]], longest: int | None = None) -> dict[str, Tensor]:
    longest = longest or max(x.shape[1] for x, _ in samples)
    padded = [nn.functional.pad(x, (0, longest - x.shape[1])) for x, _ in samples]
    lengths = torch.tensor([x.shape[1] for x, _ in samples])
    return {"x": torch.stack(padded), "lengths": lengths, "y": torch.tensor([y for _, y in samples])}


class Right:
    def __init__(self) -> None:
        self.right = self.seen = 0

    def update(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
        self.right += int((outputs["logits"].argmax(1) == batch["y"]).sum())
        self.seen += len(batch["y"])

    def compute(self) -> float:
        return self.right / self.seen


class Sequences(Objective):
    headline = Headline("right")

    def inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"lengths": batch["lengths"], "x": batch["x"]}

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(outputs["logits"], batch["y"])

    def metric(self) -> Right:
        return Right()


def run(length: int, **given: Any) -> dtp.PruneResult:
    torch.manual_seed(0)
    rows, ends = [row(i) for i in range(200)], ((40, 160), (0, 40), (160, 200))
    splits = [DatasetSplit(rows, torch.arange(200)[a:b], collate=collate) for a, b in ends]
    data = DataSource("sequences", None, (), (), (), *splits, objective=Sequences())
    recipe = Recipe(base_epochs=3, mask_epochs=1, tune_epochs=1, batch_size=20, accumulate=2)
    example = {"x": torch.randn(2, 4, length), "lengths": torch.tensor([length, 5])}
    return dtp.prune_for_device(
        Pooled(), example, device="stm32h747-cubeai-int8", budget=dtp.Budget(macs="50%"), data=data,
        recipe=recipe, **given,
    )  # fmt: skip


def test_they_train_at_their_own_lengths_and_int8_reads_those_of_the_file() -> None:
    result = run(LONGEST, int8=True)
    accuracy = result.report["accuracy"]
    assert accuracy["pruned"] > 0.8
    assert accuracy["int8"] == pytest.approx(accuracy["pruned"], abs=0.1)
    assert result.module(torch.randn(3, 4, 9), torch.tensor([9, 5, 6]))["logits"].shape == (3, 3)


def test_a_size_that_no_batch_has_is_told() -> None:
    result = run(LONGEST + 3)
    assert result.report["accuracy"]["pruned"] > 0.8
    assert any("nothing was fitted" in text for text in result.warnings)
    with pytest.raises(InputError, match="and the data has none"):
        run(LONGEST + 3, int8=True)
