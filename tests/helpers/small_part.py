"""A network of which only a part can be traced, with a loss of its own, and pictures for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.training import DataSource, Headline, Objective


class Net(nn.Module):
    """In training it returns its loss, as torchvision's detectors do, in evaluation what it is sure of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = nn.Conv2d(3, 4, 1)
        self.body = nn.Sequential(
            nn.Conv2d(4, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 8, 3, padding=1)
        )
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, images: list[Tensor], targets: Tensor | None = None) -> Any:
        rows = self.head(self.norm(self.body(self.before(torch.stack(images)))).mean((2, 3)))
        if self.training:
            return {"loss": nn.functional.cross_entropy(rows, targets)}  # type: ignore[arg-type]
        return [int(row.argmax()) for row in rows]


class Own(Objective):
    name = "own"
    headline = Headline("hits")

    def inputs(self, batch: Any) -> Any:
        return {"images": batch["images"], "targets": batch["targets"]}

    def size(self, batch: Any) -> int:
        return len(batch["targets"])

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        return outputs["loss"]

    def distilled(self, outputs: Any) -> Any:
        return None

    def metric(self) -> Any:
        return Hits()


class Hits:
    def __init__(self) -> None:
        self.seen: list[bool] = []

    def update(self, outputs: Any, batch: Any) -> None:
        self.seen += [a == int(b) for a, b in zip(outputs, batch["targets"], strict=True)]

    def compute(self) -> float:
        return sum(self.seen) / len(self.seen)


@dataclass(frozen=True)
class Images:
    """Squares in one of three colours."""

    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def _batch(self, rows: list[int]) -> dict[str, Any]:
        images, targets = [], []
        for row in rows:
            draw = torch.Generator().manual_seed(1000 * self.seed + row)
            x, kind = 0.3 * torch.rand(3, 12, 12, generator=draw), row % 3
            x[kind, 3:9, 3:9] += 0.5
            images.append(x)
            targets.append(kind)
        return {"images": images, "targets": torch.tensor(targets)}

    def ordered(self, batch_size: int) -> Iterator[Any]:
        for i in range(0, self.count, batch_size):
            yield self._batch(list(range(i, min(i + batch_size, self.count))))

    def shuffled(
        self, batch_size: int, *, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Any]:
        draw = torch.Generator().manual_seed(seed + epoch)
        order = torch.randperm(self.count, generator=draw).tolist()
        for i in range(start, -(-self.count // batch_size)):
            yield self._batch(order[i * batch_size : (i + 1) * batch_size][rank::world])


def data() -> DataSource:
    return DataSource("squares", None, (), (), (), Images(96, 1), Images(24, 2), Images(48, 3))
