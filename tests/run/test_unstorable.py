"""What no folder can hold is refused before the exporter meets it, in words that name it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from helpers.small_training import small_data
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import UnsupportedError
from dtp_edge.run import calibrated, trained


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


class Distances(Pair):
    """An operator that folders hold and that no exporter knows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.last(self.first(x).relu()).mean((2, 3))
        return torch.cdist(y, self.last.weight.mean((1, 2, 3))[None].expand(10, 4))


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


@pytest.mark.parametrize("how", ["data", "calibrate"])
def test_what_no_file_can_hold_is_refused_before_any_training(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it trains first")

    monkeypatch.setattr(trained, "_train", never)
    monkeypatch.setattr(calibrated, "calibration_set", never)
    x = torch.zeros(1, 1, 8, 8)
    network = Distances()
    network.first = nn.Conv2d(1, 8, 3)
    given: dict[str, Any] = {"data": small_data()} if how == "data" else {"calibrate": [x.clone()] * 4}
    budget = dtp.Budget(macs="80%")
    with pytest.raises(UnsupportedError, match="cdist"):
        dtp.prune_for_device(
            network, x, device="rpi4-ncnn-fp32-1t", budget=budget, out=tmp_path / "out", **given
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(AssertionError, match="trains first"):
        dtp.prune_for_device(network, x, device="rpi4-ncnn-fp32-1t", budget=budget, **given)
