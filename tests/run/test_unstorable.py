"""What no folder can hold is refused before the exporter meets it, in words that name it."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import UnsupportedError


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)


class Batch(NamedTuple):
    image: torch.Tensor


class FromClass(Pair):
    def forward(self, batch: Batch) -> torch.Tensor:
        return self.last(self.first(batch.image).relu())


class Spectrum(Pair):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(self.last(self.first(x).relu())) * 0.5)


IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("network", "inputs", "words"),
    [
        (FromClass(), (Batch(IMAGE),), "nested inputs cannot be stored"),
        (Spectrum(), (IMAGE,), "fft_rfft2.default cannot be stored"),
    ],
)
def test_the_reason_is_named_and_the_hint_fits(network: nn.Module, inputs: Any, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words) as caught:
        dtp.prune_for_device(network, inputs, device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(macs="80%"))
    assert "The folder was changed" not in str(caught.value)
