"""Writes in place, and networks that are moved after they were traced."""

from __future__ import annotations

import helpers.more_structures  # noqa: F401  (adds structures)
import numpy as np
import pytest
import torch
from helpers.graph_structures import build, conv, randomise
from helpers.invariance import random_keep
from torch import Tensor, nn

from dtp_edge.graph import PrunableNetwork, masked_forward, trace_network
from dtp_edge.proof import check_masked_equals_compact
from dtp_edge.surgery import compact


class Written(nn.Module):
    """Writes into a part of its channels."""

    def __init__(self, start: int, step: int) -> None:
        super().__init__()
        self.start, self.step = start, step
        self.a, self.b, self.out = conv(3, 8), conv(3, len(range(start, 8, step))), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).clone()
        y[:, self.start :: self.step] += self.b(x)
        return self.out(torch.relu(y))


def traced(model: nn.Module, x: Tensor) -> PrunableNetwork:
    return trace_network(randomise(model.eval()), x)


@pytest.mark.parametrize(("start", "step"), [(0, 1), (3, 1), (0, 2), (1, 3)])
def test_a_write_into_a_slice_is_cut_exactly_or_left_whole(start: int, step: int) -> None:
    network = traced(Written(start, step), torch.randn(2, 3, 6, 6))
    strided = [f for f in network.frozen if "strided slice" in f.reason]
    assert bool(strided) == (step > 1)
    for seed in range(4):
        keep = random_keep(network, 0.5, seed)
        check = check_masked_equals_compact(network, keep, compact(network, keep), dtype=torch.float64)
        assert check.passed, check


def test_a_copy_that_is_written_in_place_stays_a_copy() -> None:
    """permute, contiguous, permute back: the identity in new memory."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(3, 8), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            y = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
            y.mul_(3.0)
            return self.b(y - x)

    model, x = randomise(Net().eval()), torch.randn(2, 3, 6, 6)
    network = trace_network(model, x)
    with torch.no_grad():
        assert torch.allclose(network.graph_module(x), model(x), atol=1e-5)
        assert float(model(x).std()) > 1e-3


class ShuffledNorm(nn.Module):
    """A constant of the graph (the shuffle) where the graph itself is run (for the norm's statistics)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.out = conv(3, 8), nn.GroupNorm(1, 8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        return self.out(self.norm(x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)))


@pytest.mark.parametrize(
    "name", ["ShuffledNorm", "ChannelShuffle", "FusedQkv", "RelativePosition", "GroupNormWhole", "Roll"]
)
def test_a_network_that_moved_after_tracing_runs_where_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device stands for a GPU: nothing that is read may be anywhere else."""
    call = torch.func.functional_call

    def watched(module: nn.Module, tensors: dict[str, Tensor], *rest: object, **options: object) -> object:
        read = {**dict(module.named_parameters()), **dict(module.named_buffers()), **tensors}
        assert {t.device.type for t in read.values()} == {"meta"}
        return call(module, tensors, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.func, "functional_call", watched)
    own = name == "ShuffledNorm"
    model, x = (randomise(ShuffledNorm().eval()), torch.randn(2, 3, 6, 6)) if own else build(name)
    network = trace_network(model, x)
    model.to("meta")
    there = x.to("meta")
    mask = torch.ones(network.n_atoms, dtype=torch.float64, device="meta")
    assert masked_forward(network, model, mask, (there,)).device.type == "meta"
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[[g.start for g in network.groups]] = False
    cut = compact(network, keep, in_place=False).graph_module
    assert {t.device.type for t in [*cut.parameters(), *cut.buffers()]} == {"meta"}
    assert cut(there).device.type == "meta"
