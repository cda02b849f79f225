"""A cut is judged with the weights of now and with those that the masks began with; the better are cut."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.judge import FittedJudge, rewind
from dtp_edge.run.task import Task
from dtp_edge.transport import Budget
from dtp_edge.zoo import create


@pytest.fixture
def task() -> Task:
    torch.manual_seed(0)
    network = trace_network(create("resnet8").eval(), (torch.randn(1, 3, 32, 32),), depth=True)
    return Task.of(network, load_profile("rpi4-ncnn-fp32-1t"), Budget(latency="60%"))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))) for _ in range(2)]


def test_weights_that_training_spoiled_are_put_back(task: Task) -> None:
    learner, module = task.learner(4, batches=batches()), task.network.module
    begun = copy.deepcopy(module.state_dict())
    keep = np.ones(task.network.n_atoms, dtype=bool)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(-3.0)
    spoiled = copy.deepcopy(module.state_dict())
    assert learner.judge is not None
    (both,) = learner.judge(keep[None].astype(float))
    assert all(torch.equal(t, spoiled[n]) for n, t in module.state_dict().items()), "judging changes nothing"
    assert rewind(learner.judge, keep)
    assert all(torch.equal(t, begun[n]) for n, t in module.state_dict().items())
    alone = FittedJudge(task.network, batches())
    assert both == pytest.approx(alone(keep[None].astype(float))[0], rel=1e-5)


def test_weights_that_training_made_better_stay(task: Task) -> None:
    data, module = batches(), task.network.module
    learner = task.learner(4, batches=data)
    optimiser = torch.optim.SGD(module.parameters(), 0.05)
    module.train()
    for _ in range(20):
        x, y = data[1]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    module.eval()
    trained = copy.deepcopy(module.state_dict())
    keep = np.ones(task.network.n_atoms, dtype=bool)
    assert not rewind(learner.judge, keep)
    assert all(torch.equal(t, trained[n]) for n, t in module.state_dict().items())


def test_without_a_judge_nothing_is_put_back(task: Task) -> None:
    assert not rewind(None, np.ones(3, dtype=bool))
