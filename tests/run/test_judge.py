"""What chooses between cuts: each is fitted in two ways, and the lower of the losses counts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.run import judge as judging
from dtp_edge.run.judge import FittedJudge
from dtp_edge.surgery import compact, refit
from dtp_edge.zoo import create


@pytest.fixture
def network() -> PrunableNetwork:
    torch.manual_seed(0)
    return trace_network(create("resnet8").eval(), (torch.randn(1, 3, 32, 32),), depth=True)


def batches(count: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))) for _ in range(count)]


def without(network: PrunableNetwork, index: int) -> np.ndarray:
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[network.branches[index].atom] = False
    return network.settled(keep)


def loss_of(network: PrunableNetwork, keep: np.ndarray, fitted: Any, judged: Any, *, streams: bool) -> float:
    cut = compact(network, keep)
    images = torch.cat([x for x, _ in fitted])
    refit(
        network,
        cut,
        copy.deepcopy(network.module.state_dict()),
        (images,),
        streams=streams,
        effort=judging.EFFORT,
    )
    with torch.no_grad():
        losses = [float(nn.functional.cross_entropy(cut.graph_module.eval()(x), y)) for x, y in judged]
    return sum(losses) / len(losses)


def test_the_lower_loss_of_both_fits_counts(network: PrunableNetwork) -> None:
    given = batches(4)
    keep = without(network, 0)
    both = [loss_of(network, keep, given[:2], given[2:], streams=streams) for streams in (False, True)]
    before = copy.deepcopy(network.module.state_dict())
    (found,) = FittedJudge(network, given)(keep[None].astype(float))
    assert both[0] != pytest.approx(both[1], rel=1e-3)
    assert found == pytest.approx(min(both), rel=1e-4)
    (more,) = FittedJudge(network, given, None, batches(6)[4:])(keep[None].astype(float))
    assert more == pytest.approx(
        min(loss_of(network, keep, given[:2], batches(6)[2:], streams=s) for s in (False, True)), rel=1e-4
    )
    assert all(torch.equal(t, before[n]) for n, t in network.module.state_dict().items()), "nothing changes"


def test_what_looks_bad_is_fitted_once(network: PrunableNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "FEWEST", 1)
    judge, seen = FittedJudge(network, batches()), []
    losses = {0: 2.0, 1: 1.0, 2: 3.0}

    def loss(keep: np.ndarray, *, streams: bool = False) -> float:
        index = next(i for i in range(3) if not keep[network.branches[i].atom])
        seen.append((index, streams))
        return losses[index] - streams

    monkeypatch.setattr(judge, "_loss", loss)
    masks = np.stack([without(network, i) for i in range(3)]).astype(float)
    assert judge(masks).tolist() == [2.0, 0.0, 3.0]
    assert seen[-1] == (1, True)
    assert len(seen) == 4
