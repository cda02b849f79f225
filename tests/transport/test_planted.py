"""Problems whose best subset is known: only planted channels reproduce the target, decoys look larger."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import ChainCost, chain_network

from dtp_edge.transport import MaskLearner, initial_scores

INPUTS, OUTPUTS, HIDDEN, PLANTED, STEPS = 24, 6, [16], [6], 200
BUDGETS = ["macs", "params", "flash_bytes", "peak_ram_bytes", "latency_ms", "kept_channels", "layer"]


def planted(seed: int, budget: str) -> tuple[bool, bool]:
    """Return whether learned scores, and the starting scores alone, find the planted channels."""
    generator = torch.Generator().manual_seed(seed)
    network, cost = chain_network(INPUTS, HIDDEN, OUTPUTS), ChainCost(INPUTS, OUTPUTS, widths=len(HIDDEN))
    truth = torch.zeros(network.n_atoms)
    for group, count in zip(network.groups, PLANTED, strict=True):
        truth[group.start + torch.randperm(group.stop - group.start, generator=generator)[:count]] = 1
    with torch.no_grad():
        for p in network.module.parameters():
            p.normal_(0, 0.5, generator=generator)
        for i, group in enumerate(network.groups):  # decoys are louder than what matters
            loud = torch.where(truth[group.start : group.stop] > 0, 1.0, 1.5)
            network.module[2 * i].weight.mul_(loud[:, None])

    def run(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for i, group in enumerate(network.groups):
            x = torch.relu(network.module[2 * i](x)) * mask[group.start : group.stop]
        return network.module[2 * len(HIDDEN)](x)

    exact = cost.evaluate(network.layers.sizes(truth.double().numpy()))
    limits = {"kept_channels": float(sum(PLANTED)), **exact}
    shares = {g.name: n / (g.stop - g.start) for g, n in zip(network.groups, PLANTED, strict=True)}
    learner = MaskLearner(
        network,
        cost,
        {} if budget == "layer" else {budget: limits[budget]},
        STEPS,
        layer_keep=shares if budget == "layer" else None,
        scores=initial_scores(network),
    )
    optimizer = torch.optim.SGD(learner.score_parameters(), lr=0.05, momentum=0.9)
    start = learner.harden()
    for _ in range(STEPS):
        x = torch.randn(64, INPUTS, generator=generator)
        with torch.no_grad():
            target = run(x, truth)
        (run(x, learner.mask()) - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.step()
    wanted = truth.numpy().astype(bool)
    return bool((learner.harden() == wanted).all()), bool(np.array_equal(start, wanted))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(
    "seeds", [range(4), pytest.param(range(100), marks=pytest.mark.slow)], ids=["few", "hundred"]
)
def test_planted_channels_are_found(budget: str, seeds: range) -> None:
    torch.set_num_threads(1)
    found = [planted(seed, budget) for seed in seeds]
    learned, start = (sum(pair[i] for pair in found) for i in range(2))
    print(f"{budget}: {learned} of {len(seeds)} learned, {start} from the start alone")
    assert learned >= 0.95 * len(seeds)
