"""The proof of surgery must fail where the cut is wrong, and say by how much."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.problems.keeps import random_keep
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.proof import check_masked_equals_compact
from dtp_edge.proof.equality import copied_network, randomise_tensors
from dtp_edge.surgery import compact
from dtp_edge.surgery.compaction import Compact, graph_tensors


class Net(nn.Module):
    """A head of zeros, as a new one often is, hides what happens before it."""

    def __init__(self, zero_head: bool = False) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.b, self.head = nn.Conv2d(8, 6, 3), nn.Linear(6, 4)
        if zero_head:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(torch.sigmoid(self.norm(self.a(x))))
        return self.head(torch.sigmoid(y).mean((2, 3)))


def cut(zero_head: bool = False) -> tuple[PrunableNetwork, np.ndarray, Compact]:
    torch.manual_seed(0)
    network = trace_network(Net(zero_head).eval(), torch.randn(2, 3, 9, 9))
    keep = random_keep(network, 0.5, 1)
    return network, keep, compact(network, keep)


@pytest.mark.parametrize("randomise", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_right_cut_passes(randomise: bool, dtype: torch.dtype) -> None:
    network, keep, result = cut()
    check = check_masked_equals_compact(network, keep, result, randomise=randomise, dtype=dtype)
    assert check.passed, check
    assert check.limit == (1e-4 if dtype == torch.float32 else 1e-9)
    assert 0 <= check.value <= check.limit


@pytest.mark.parametrize("size", [1.0, 1e-2])
def test_a_wrong_cut_fails_with_the_size_of_its_error(size: float) -> None:
    """One weight of one channel, as where another channel was gathered; float64 does not excuse it."""
    network, keep, result = cut()
    with torch.no_grad():
        for module in {id(m): m for m in (result.module, result.graph_module)}.values():
            dict(module.named_parameters())["b.weight"][0] += size
    check = check_masked_equals_compact(network, keep, result)
    assert not check.passed
    assert check.value > 10 * check.limit


def test_another_choice_of_channels_is_another_function() -> None:
    network, keep, _ = cut()
    group = network.groups[0]
    other = keep.copy()
    other[group.start : group.stop] = np.roll(keep[group.start : group.stop], 1)
    assert (other != keep).any()
    assert not check_masked_equals_compact(network, keep, compact(network, other)).passed


def test_random_weights_show_what_a_head_of_zeros_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    from dtp_edge.proof import equality

    network, keep, _ = cut(zero_head=True)
    group = network.groups[0]
    other = keep.copy()
    other[group.start : group.stop] = np.roll(keep[group.start : group.stop], 1)
    wrong = compact(network, other)
    assert check_masked_equals_compact(network, keep, wrong).passed  # 0 == 0
    monkeypatch.setattr(equality, "compact", lambda net, _, **kwargs: compact(net, other, **kwargs))
    assert not check_masked_equals_compact(network, keep, wrong, randomise=True).passed


def test_a_check_changes_neither_weights_nor_mode() -> None:
    network, keep, result = cut()
    before = copy.deepcopy(network.module.state_dict())
    result.module.train()
    check_masked_equals_compact(network, keep, result, randomise=True)
    check_masked_equals_compact(network, keep, result)
    assert result.module.training
    assert all(torch.equal(before[n], t) for n, t in network.module.state_dict().items())


def test_a_copy_shares_its_tensors_between_module_and_graph_only() -> None:
    network, _, _ = cut()
    twin = copied_network(network)
    mine, theirs = dict(twin.module.named_parameters()), graph_tensors(twin)
    assert all(theirs[name] is tensor for name, tensor in mine.items() if name in theirs)
    assert not {id(t) for t in mine.values()} & {id(t) for t in network.module.parameters()}
    randomise_tensors(twin, seed=3)
    old, new = network.module.state_dict(), twin.module.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {name for name in old if old[name].is_floating_point()}
    assert bool((new["norm.running_var"] > 0).all())
