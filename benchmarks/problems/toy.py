"""A chain of convolutions with hand-written labels and an analytic cost: no tracing, no profile."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
from torch import nn

from dtp_edge.graph.layers import LayerGraph
from dtp_edge.graph.network import Group, PrunableNetwork


class Chain(nn.Sequential):
    """Linear layers `n_0 -> n_1 -> ... -> n_out` with ReLU between."""

    def __init__(self, inputs: int, hidden: list[int], outputs: int) -> None:
        layers: list[nn.Module] = []
        last = inputs
        for size in hidden:
            layers += [nn.Linear(last, size), nn.ReLU()]
            last = size
        super().__init__(*layers, nn.Linear(last, outputs))


def chain_network(inputs: int, hidden: list[int], outputs: int) -> PrunableNetwork:
    """Every hidden layer is one group of one channel an atom."""
    groups, widths = _hidden_groups(hidden)
    labels: dict[str, Any] = {}
    module = Chain(inputs, hidden, outputs)
    for i, width in enumerate(widths):
        labels[f"{2 * i}.weight"] = (width, widths[i - 1] if i else None)
        labels[f"{2 * i}.bias"] = (width,)
    labels[f"{2 * len(hidden)}.weight"] = (None, widths[-1])
    return _network(module, groups, widths, labels)


def _hidden_groups(hidden: tuple[int, ...]) -> tuple[tuple[Group, ...], tuple[np.ndarray, ...]]:
    """One group a hidden layer, and the atoms of each width."""
    starts = np.cumsum([0, *hidden])
    groups = tuple(
        Group(f"hidden{i}", "channels", int(a), int(b)) for i, (a, b) in enumerate(itertools.pairwise(starts))
    )
    widths = tuple(np.arange(g.start, g.stop, dtype=np.int32)[:, None] for g in groups)
    return groups, widths


def _network(
    module: nn.Module, groups: tuple[Group, ...], widths: tuple[np.ndarray, ...], labels: dict[str, Any]
) -> PrunableNetwork:
    """A network without a graph: what plans, scores and hardening read."""
    return PrunableNetwork(
        module=module,
        graph_module=cast(Any, None),
        example_inputs=(),
        groups=groups,
        frozen=(),
        tensor_labels=labels,
        node_labels={},
        parameter_sites=(),
        node_sites=(),
        layers=LayerGraph((), {}, widths, groups[-1].stop),
    )


class ChainCost:
    """MACs, parameters, RAM (largest input + output of a layer) and a latency with a channel staircase."""

    metrics = ("latency_ms", "peak_ram_bytes", "flash_bytes", "macs", "params")

    def __init__(
        self, inputs: int, outputs: int, step: int = 1, overhead: float = 0.0, widths: int = 1
    ) -> None:
        self.widths = widths
        self.inputs, self.outputs, self.step, self.overhead = inputs, outputs, step, overhead

    def evaluate(self, sizes: np.ndarray) -> dict[str, float]:
        full = np.concatenate([[self.inputs], sizes, [self.outputs]])
        macs = float((full[:-1] * full[1:]).sum())
        params = macs + float(full[1:].sum())
        return {
            "latency_ms": 1e-3 * float((self.rounded(full[:-1]) * self.rounded(full[1:])).sum())
            + self.overhead,
            "peak_ram_bytes": 4.0 * float((full[:-1] + full[1:]).max()),
            "flash_bytes": 4.0 * params,
            "macs": macs,
            "params": params,
        }

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Smooth between whole widths, a staircase at them."""
        below = np.floor(x)
        low, high = (np.ceil(v / self.step) * self.step for v in (below, below + 1))
        return low + (x - below) * (high - low)

    def gradient(self, sizes: np.ndarray, metric: str) -> np.ndarray:
        grad = np.zeros(len(sizes))
        h = max(self.step, 1) / 2
        for i in range(len(sizes)):
            up, down = sizes.copy(), sizes.copy()
            up[i] += h
            down[i] = max(0.0, down[i] - h)
            grad[i] = (self.evaluate(up)[metric] - self.evaluate(down)[metric]) / (up[i] - down[i])
        return grad

    def channel_steps(self) -> np.ndarray:
        return np.full(self.widths, self.step)


def branch_network(inputs: int, hidden: tuple[int, ...], outputs: int) -> PrunableNetwork:
    """Layers side by side: `inputs -> n_i -> outputs` each; every hidden layer is one group."""
    groups, widths = _hidden_groups(hidden)
    labels: dict[str, Any] = {}
    for i, width in enumerate(widths):
        labels |= {f"{i}.0.weight": (width, None), f"{i}.0.bias": (width,), f"{i}.1.weight": (None, width)}
    module = nn.ModuleList(nn.ModuleList([nn.Linear(inputs, n), nn.Linear(n, outputs)]) for n in hidden)
    return _network(module, groups, widths, labels)


class BranchCost:
    """Layers side by side whose channels have different prices, and a latency that is no sum over them."""

    metrics = ("latency_ms", "peak_ram_bytes", "flash_bytes", "macs", "params")
    pixels = np.array([16.0, 4.0, 1.0])

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs, self.outputs = inputs, outputs

    def evaluate(self, sizes: np.ndarray) -> dict[str, float]:
        macs = float((self.pixels * sizes).sum()) * (self.inputs + self.outputs)
        params = float(sizes.sum()) * (self.inputs + 1 + self.outputs)
        return {
            "latency_ms": 1e-3 * float((self.pixels * sizes).sum() + (sizes[:-1] * sizes[1:]).sum()),
            "peak_ram_bytes": 4.0 * float((self.pixels * sizes).sum()),
            "flash_bytes": 4.0 * params,
            "macs": macs,
            "params": params,
        }

    def gradient(self, sizes: np.ndarray, metric: str) -> np.ndarray:
        found = np.zeros(len(sizes))
        for i in range(len(sizes)):
            up, down = sizes.copy(), sizes.copy()
            up[i], down[i] = up[i] + 0.5, max(0.0, down[i] - 0.5)
            found[i] = (self.evaluate(up)[metric] - self.evaluate(down)[metric]) / (up[i] - down[i])
        return found

    def channel_steps(self) -> np.ndarray:
        return np.ones(len(self.pixels), dtype=np.int64)
