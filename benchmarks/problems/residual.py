"""Residual blocks with hand-written labels and an analytic cost, and the best cut of them by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from torch import nn

from dtp_edge.graph.branches import Branch, Depth
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.graph.network import Group, PrunableNetwork


def residual_network(
    stream: int, inners: Sequence[int], parents: Sequence[int | None], twins: Sequence[int | None]
) -> PrunableNetwork:
    """One stream and a branch with an inner width each; a branch may lie in another, or be one of two.

    Widths are the stream's, the inner ones', and then the product of the gates that each branch is behind.
    """
    sizes = [stream, *inners, *[1] * len(inners)]
    starts = np.cumsum([0, *sizes])
    kinds = ["channels"] * (1 + len(inners)) + ["branch"] * len(inners)
    names = ["stream", *(f"inner{i}" for i in range(len(inners))), *(f"gate{i}" for i in range(len(inners)))]
    groups = tuple(
        Group(name, kind, int(a), int(b))
        for name, kind, (a, b) in zip(names, kinds, itertools.pairwise(starts), strict=True)
    )
    first = 1 + len(inners)

    def within(i: int) -> list[int]:
        children = [j for j, parent in enumerate(parents) if parent == i]
        return [1 + i, *(g for j in children for g in (first + j, *within(j)))]

    branches = tuple(
        Branch(
            name=f"b{i}", addition=f"add{i}", operand=0, stays="x", nodes=(f"n{i}",), repeats=(),
            parent=parents[i], twin=twins[i], atom=groups[first + i].start, group=first + i,
            groups=tuple(within(i)), parameters=(),
        )
        for i in range(len(inners))
    )  # fmt: skip
    depth = Depth(branches)
    widths = [np.arange(g.start, g.stop, dtype=np.int32)[:, None] for g in groups[:first]]
    widths += [
        np.array([[branches[j].atom for j in depth.chain(i)]], dtype=np.int32) for i in range(len(inners))
    ]
    return PrunableNetwork(
        module=nn.Identity(),
        graph_module=cast(Any, None),
        example_inputs=(),
        groups=groups,
        frozen=(),
        tensor_labels={},
        node_labels={},
        parameter_sites=(),
        node_sites=(),
        layers=LayerGraph((), {}, tuple(widths), groups[-1].stop),
        depth=depth,
    )


@dataclass
class ResidualCost:
    """A kernel of `base` for the stream, two a branch; latency has an overhead a kernel and a staircase."""

    inners: int
    step: int = 1
    overhead: float = 1.0
    base: float = 4.0
    metrics = ("latency_ms", "peak_ram_bytes", "flash_bytes", "macs", "params")

    def evaluate(self, sizes: np.ndarray) -> dict[str, float]:
        stream, inner, gate = sizes[0], sizes[1 : 1 + self.inners], sizes[1 + self.inners :]
        params = float(self.base * stream + (2 * gate * stream * inner).sum())

        def up(n: Any) -> Any:
            return np.ceil(n / self.step - 1e-9) * self.step

        latency = self.base * up(stream) + self.overhead
        latency += (2 * gate * (up(stream) * up(inner) + self.overhead)).sum()
        live = (gate * (2 * stream + inner)).max(initial=stream)
        return {
            "latency_ms": float(latency),
            "peak_ram_bytes": float(max(live, stream)),
            "flash_bytes": 4 * params,
            "macs": 9 * params,
            "params": params,
        }

    def gradient(self, sizes: np.ndarray, metric: str) -> np.ndarray:
        """Forward differences over a step, which see the staircase."""
        found = np.zeros(len(sizes))
        here = self.evaluate(sizes)[metric]
        for i in range(len(sizes)):
            more, move = sizes.copy(), self.step if i <= self.inners else 1e-3
            more[i] += move
            found[i] = max(0.0, (self.evaluate(more)[metric] - here) / move)
        return found

    def channel_steps(self) -> np.ndarray:
        return np.array([self.step] * (1 + self.inners) + [1] * self.inners)


Case = tuple[PrunableNetwork, ResidualCost, dict[str, float], np.ndarray]


def random_case(seed: int) -> Case:
    """Up to four branches, some of them nested or in pairs, a staircase, one to three limits, worths."""
    rng = np.random.default_rng(seed)
    inners = [int(n) for n in rng.integers(2, 6, size=rng.integers(1, 5))]
    parents: list[int | None] = [None] * len(inners)
    twins: list[int | None] = [None] * len(inners)
    if len(inners) > 2 and rng.random() < 0.4:
        parents[-1] = 0
    if len(inners) > 1 and rng.random() < 0.3:
        twins[0], twins[1] = 1, 0
    network = residual_network(int(rng.integers(2, 6)), inners, parents, twins)
    cost = ResidualCost(len(inners), int(rng.choice([1, 1, 2, 4])), float(rng.choice([0.0, 1.0, 8.0])))
    values = rng.uniform(0, 1, network.n_atoms)
    first = 1 + len(inners)
    for g in network.groups[first:]:
        values[g.start] *= rng.choice([0.5, 2.0, 6.0])  # a branch alone may be worth more than its channels
    dense = cost.evaluate(network.layers.sizes(np.ones(network.n_atoms)))
    small = min((costs for _, costs in every_cut(network, cost, np.ones(network.n_atoms))), key=_latency)
    chosen = rng.choice(cost.metrics, size=rng.integers(1, 4), replace=False)
    limits = {str(m): small[m] + max(dense[m] - small[m], 0.0) * rng.uniform(0.02, 0.95) for m in chosen}
    return network, cost, limits, values


def _latency(costs: dict[str, float]) -> tuple[float, ...]:
    return tuple(costs.values())


def every_cut(network: PrunableNetwork, cost: ResidualCost, values: np.ndarray):  # type: ignore[no-untyped-def]
    """Yield (worth, costs) of every combination of open gates and widths that leaves a network."""
    totals = [
        np.concatenate([[0.0], np.cumsum(np.sort(values[g.start : g.stop])[::-1])]) for g in network.groups
    ]
    count = cost.inners
    for gates in itertools.product((0, 1), repeat=count):
        keep = np.ones(network.n_atoms, dtype=bool)
        keep[[b.atom for b in network.branches]] = gates
        if network.depth.fault(keep) is not None:
            continue
        closed = set(network.depth.closed(keep))
        if any(g == 1 and i in closed for i, g in enumerate(gates)):
            continue  # the same as with that gate closed
        ranges = [range(1, len(totals[0]))]
        ranges += [range(1, 2) if i in closed else range(1, len(totals[1 + i])) for i in range(count)]
        for widths in itertools.product(*ranges):
            mask = np.zeros(network.n_atoms)
            for g, w in zip(network.groups, (*widths, *gates), strict=True):
                mask[g.start : g.start + w] = 1
            worth = sum(totals[g][w] for g, w in enumerate(widths) if g == 0 or g - 1 not in closed) + sum(
                totals[1 + count + i][1] for i in range(count) if i not in closed
            )
            yield float(worth), cost.evaluate(network.layers.sizes(mask))


def best_worth(
    network: PrunableNetwork, cost: ResidualCost, limits: dict[str, float], values: np.ndarray
) -> float:
    """The optimum, by trying all."""
    fits = (w for w, c in every_cut(network, cost, values) if all(c[m] <= v for m, v in limits.items()))
    return max(fits, default=0.0)
