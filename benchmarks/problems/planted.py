"""Three layers whose best subset is known, in numbers that differ from layer to layer.

The layers stand side by side, each with a target of its own that only its planted channels compute, so the
planted channels have loss 0 and every other choice has more: one that is missing is missed, a decoy that is
kept disturbs. The budget is exactly what the planted channels cost. It lets in many other splits over the
layers (their channels have different prices), and decoys are louder than what matters, so neither the
starting scores nor an even split finds it. `brute_force` looks at all 2^30 subsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.problems.toy import BranchCost, branch_network
from dtp_edge.cost import NetworkCost
from dtp_edge.graph.network import PrunableNetwork
from dtp_edge.run.task import Task

INPUTS, OUTPUTS, HIDDEN = 24, 6, (10, 12, 8)
BUDGETS = ("layer", "kept_channels", "macs", "params", "latency_ms", "peak_ram_bytes", "flash_bytes")
STEPS, RATE = 120, 0.05


@dataclass
class Planted:
    """`truth [30]` is the best subset; `limits` holds what it costs."""

    network: PrunableNetwork
    cost: BranchCost
    truth: np.ndarray
    limits: dict[str, float]
    layer_keep: dict[str, float] | None

    def parts(self, x: Tensor) -> list[Tensor]:
        """What every channel of every layer adds to its output, `[hidden, inputs, outputs]` a layer."""
        found = []
        for branch in self.network.module.children():
            reads, writes = branch.children()
            assert isinstance(writes, nn.Linear)
            found.append(torch.relu(reads(x)).T[..., None] * writes.weight.T[:, None])
        return found

    def loss(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mean square distance of the outputs from those of the planted channels, summed over layers."""
        gap = mask - torch.from_numpy(self.truth).to(mask)
        pieces = zip(self.parts(x), gap.split(HIDDEN), strict=True)
        return torch.stack([(g[:, None, None] * part).sum(0).square().mean() for part, g in pieces]).sum()


def plant(seed: int, budget: str) -> Planted:
    rng = np.random.default_rng(seed)
    network, cost = branch_network(INPUTS, HIDDEN, OUTPUTS), BranchCost(INPUTS, OUTPUTS)
    counts = rng.integers(2, 7, size=3)
    truth = np.zeros(sum(HIDDEN), dtype=bool)
    for group, count in zip(network.groups, counts, strict=True):
        truth[group.start + rng.permutation(group.stop - group.start)[: int(count)]] = True
    exact = cost.evaluate(network.layers.sizes(truth.astype(float))) | {"kept_channels": float(truth.sum())}
    shares = {g.name: int(n) / (g.stop - g.start) for g, n in zip(network.groups, counts, strict=True)}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.module.parameters():
            p.normal_(0, 0.5, generator=generator)
        for group, branch in zip(network.groups, network.module.children(), strict=True):
            planted = torch.from_numpy(truth[group.start : group.stop])
            next(branch.parameters()).mul_(torch.where(planted, 1.0, 1.5)[:, None])
    if budget == "layer":
        return Planted(network, cost, truth, {}, shares)
    return Planted(network, cost, truth, {budget: exact[budget]}, None)


def find(seed: int, budget: str, steps: int = STEPS) -> tuple[bool, bool]:
    """Return whether learned scores, and the starting scores alone, harden to the planted channels."""
    problem = plant(seed, budget)
    task = Task(problem.network, cast(NetworkCost, problem.cost), problem.limits, problem.layer_keep or {})
    learner = task.learner(steps)
    start = learner.harden()
    optimizer = torch.optim.SGD(learner.score_parameters(), lr=RATE, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        problem.loss(torch.randn(64, INPUTS, generator=generator), learner.mask()).backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.step()
    return bool((learner.harden() == problem.truth).all()), bool((start == problem.truth).all())


@torch.no_grad()
def brute_force(problem: Planted, inputs: int = 256) -> tuple[np.ndarray, float, float]:
    """Return the subset of least loss within the budget, its loss, and the second least loss.

    Losses add up over layers, so the best subsets of every size of every layer are combined.
    """
    x = torch.randn(inputs, INPUTS, generator=torch.Generator().manual_seed(1))
    tables = []  # per layer and size: the two best (loss, subset)
    for part, truth, n in zip(
        problem.parts(x), np.split(problem.truth, np.cumsum(HIDDEN)[:-1]), HIDDEN, strict=True
    ):
        subsets = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
        gap = torch.from_numpy(subsets.astype(float) - truth)
        flat = part.flatten(1).double()
        losses = ((gap @ (flat @ flat.T)) * gap).sum(1).numpy() / flat.shape[1]
        sizes = subsets.sum(1)
        order = [np.flatnonzero(sizes == k) for k in range(n + 1)]
        tables.append([[(losses[i], subsets[i]) for i in o[np.argsort(losses[o])[:2]]] for o in order])
    found = []
    for index in np.ndindex(*[n + 1 for n in HIDDEN]):
        if _fits(problem, np.array(index, dtype=float)):
            entries = [table[k] for table, k in zip(tables, index, strict=True)]
            best = [e[0] for e in entries]
            found.append((sum(v for v, _ in best), np.concatenate([m for _, m in best])))
            for i, e in enumerate(entries):  # second best of this split
                if len(e) > 1:
                    other = [*best[:i], e[1], *best[i + 1 :]]
                    found.append((sum(v for v, _ in other), np.concatenate([m for _, m in other])))
    found.sort(key=lambda pair: pair[0])
    return found[0][1], float(found[0][0]), float(found[1][0])


def _fits(problem: Planted, sizes: np.ndarray) -> bool:
    if problem.layer_keep is not None:
        return bool((sizes <= np.round(np.array(list(problem.layer_keep.values())) * HIDDEN)).all())
    cost = problem.cost.evaluate(sizes) | {"kept_channels": float(sizes.sum())}
    return all(cost[m] <= limit for m, limit in problem.limits.items())
