"""Networks that no label rule covers as a whole, each with what it must say of that."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Projection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 12, proj_size=4, batch_first=True)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(self.first(x))[0])


class Diagonal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.einsum("bii->bi", self.first(x)))


class Interleaved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 3), nn.Linear(6, 2)
        self.register_buffer("times", torch.tensor([1, 2, 3]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.repeat_interleave(self.first(x), self.times, dim=-1, output_size=6))


class Summed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cumsum(self.first(x), -1))


REFUSED: dict[str, tuple[nn.Module, Tensor, str, str]] = {
    "projection": (Projection(), torch.randn(2, 5, 8), "not-covered", "lstm with a projection"),
    "diagonal": (Diagonal(), torch.randn(2, 5, 8), "not-covered", "einsum with a diagonal"),
    "interleaved": (Interleaved(), torch.randn(2, 8), "not-covered", "repeats that differ"),
    "cumsum": (Summed(), torch.randn(2, 8), "no-rule", "no rule for the operator cumsum"),
}
