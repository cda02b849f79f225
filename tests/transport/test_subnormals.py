"""No subnormal numbers from masks: they are 0 where no float32 weight could feel them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_training import SmallNet, small_data, small_recipe
from torch import Tensor

from dtp_edge.cost import NetworkCost
from dtp_edge.graph import scaled_parameters, trace_network
from dtp_edge.measure import load_profile
from dtp_edge.training import learn_masks, open_session
from dtp_edge.training.subnormals import flushed, is_flushing
from dtp_edge.transport import Budget, MaskLearner
from dtp_edge.transport.plan_mask import PlanMask

TINY = torch.finfo(torch.float32).tiny
STEPS = 100


def subnormal(tensor: Tensor) -> int:
    return int(((tensor != 0) & (tensor.abs() < TINY)).sum())


def hardening(share: float) -> MaskLearner:
    """A learner after a share of its steps, whose masks harden so far that float32 cannot hold them."""
    torch.manual_seed(0)
    network = trace_network(SmallNet(dropout=0.0), (torch.zeros(1, 1, 8, 8),))
    cost = NetworkCost(network.layers, load_profile("rpi4-ncnn-fp32-1t"))
    limits = Budget(macs="50%").limits(cost.evaluate(cost.dense_sizes()))
    learner = MaskLearner(network, cost, limits, STEPS, logit_scale=400.0).train()
    while int(learner.steps_done) < share * STEPS:
        learner.step()
    return learner


@pytest.mark.parametrize("share", [0.0, 0.6, 0.8, 0.9, 0.99, 1.0])
def test_counts_of_subnormals_in_a_step(share: float) -> None:
    """In masks, masked weights, the outputs of layers and their gradients, and those of all parameters."""
    learner, counts = hardening(share), {"outputs": 0, "their gradients": 0}

    def forward(_: Any, __: Any, out: Tensor) -> None:
        counts["outputs"] += subnormal(out.detach())
        out.register_hook(backward)

    def backward(gradient: Tensor) -> None:
        counts["their gradients"] += subnormal(gradient)

    for layer in learner.module.children():
        layer.register_forward_hook(forward)
    mask = learner.mask().detach()
    counts["masks"] = subnormal(mask)
    named = dict(learner.module.named_parameters())
    scaled = scaled_parameters(learner.network, mask, named)
    counts["masked weights"] = sum(subnormal(t.detach()) for t in scaled.values())
    x, y = next(small_data().train.shuffled(64, seed=0, epoch=0))
    torch.nn.functional.cross_entropy(learner(x), y).backward()
    found = [p.grad for p in learner.parameters() if p.grad is not None]
    assert len(found) >= len(named)
    counts["gradients"] = sum(map(subnormal, found))
    assert counts == dict.fromkeys(counts, 0)
    if share > 0.5:
        assert int((mask == 0).sum()) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_is_0_where_its_mirror_image_is_1(dtype: torch.dtype) -> None:
    z = torch.linspace(0, 60, 601, dtype=dtype)
    nothing = torch.zeros(1, len(z), dtype=torch.float64)
    masks = [
        PlanMask.apply(
            sign * z, nothing[0], nothing, nothing, torch.zeros(len(z), dtype=torch.int64), 1.0, 1, 0.0
        )
        for sign in (1, -1)
    ]
    high, low = (m.numpy() for m in masks)  # type: ignore[union-attr]
    half = np.finfo(high.dtype).eps / 2
    assert np.all((low == 0) == (1 / (1 + np.exp(z.double().numpy())) < half))
    assert np.all(high[low == 0] >= 1 - half)
    assert np.all(low[low > 0] >= half)


def test_training_on_a_cpu_flushes_and_gives_back() -> None:
    seen: list[bool] = []
    learner = hardening(0.0)
    learner.module.conv1.register_forward_hook(lambda *_: seen.append(is_flushing()))
    session = open_session(small_data(), small_recipe(mask_epochs=0.1, ema=0.0))
    learn_masks(learner, session, None)
    assert seen
    assert all(seen)
    assert not is_flushing()
    torch.set_flush_denormal(True)
    try:
        with flushed(torch.device("cpu")):
            assert is_flushing()
        assert is_flushing()  # whoever had set it still has it
    finally:
        torch.set_flush_denormal(False)
    with flushed(torch.device("cuda")):
        assert not is_flushing()


POOL = """
import torch
from dtp_edge.training.subnormals import flushed

torch.set_num_threads(2)

def subnormals():
    half = torch.full((1 << 22,), torch.finfo(torch.float32).tiny) / 2
    return int((half.view(torch.int32) != 0).sum())

print(subnormals())
with flushed(torch.device("cpu")):
    print(subnormals())
print(subnormals())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the threads of OpenMP are told on Linux only")
def test_threads_that_are_older_than_a_training_flush_and_stop_with_it() -> None:
    found = subprocess.run([sys.executable, "-c", POOL], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(1 << 22), "0", str(1 << 22)]
