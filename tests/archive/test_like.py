"""A stored network in the user's own class: the widths and weights of the folder, or a reason why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import InputError
from dtp_edge.zoo import create

DEVICE = "rpi4-ncnn-fp32-1t"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("runs") / "r8"
    budget = dtp.Budget(latency="50%")
    dtp.prune_for_device(
        create("resnet8"), torch.randn(1, 3, 32, 32), device=DEVICE, budget=budget, depth=True, out=out
    )
    return out


def test_it_is_of_the_class_and_computes_the_same(folder: Path) -> None:
    torch.manual_seed(1)
    anew = create("resnet8")
    found = dtp.load_pruned(folder, like=anew)
    x = torch.randn(2, 3, 32, 32)
    assert type(found) is type(anew)
    torch.testing.assert_close(found.eval()(x), dtp.load_pruned(folder).eval()(x))
    assert sum(p.numel() for p in found.parameters()) < sum(p.numel() for p in anew.parameters())
    assert all(p.requires_grad for p in found.parameters())


def test_another_network_is_told(folder: Path) -> None:
    with pytest.raises(InputError, match="another one"):
        dtp.load_pruned(folder, like=create("resnet8", num_classes=7))


def test_a_class_that_cannot_hold_the_widths_is_told(tmp_path: Path) -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two = nn.Conv2d(3, 32, 3), nn.Conv2d(16, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = self.one(x).chunk(2, 1)
            return self.two(a.relu()) + self.two(b[:, :16]).mean()

    class Uneven(Halves):
        def __init__(self) -> None:
            super().__init__()
            self.three = nn.Conv2d(16, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = self.one(x).chunk(2, 1)
            return self.two(a.relu()) + self.three(b.relu())

    net = Uneven()
    with torch.no_grad():
        net.one.weight[:8] *= 0.01
    out = tmp_path / "run"
    dtp.prune_for_device(
        net, torch.rand(1, 3, 16, 16), device=DEVICE, budget=dtp.Budget(latency="70%"), out=out
    )
    with pytest.raises(InputError, match="Uneven cannot hold these widths"):
        dtp.load_pruned(out, like=Uneven())
