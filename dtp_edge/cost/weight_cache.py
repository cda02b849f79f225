"""Weights that a loop of calls finds in the last cache, and weights that come from memory every time.

Between two calls of a small network its weights stay in the cache; of a larger one the cache keeps
only so much, and the rest is read from memory again. A profile with a `weight_cache` adds that: weight bytes
of the whole network beyond `bytes` cost 1/`bytes_per_second` each. A kernel bears its share of the weights.
"""

from __future__ import annotations

import numpy as np

from dtp_edge.cost.gates import Gates, factors
from dtp_edge.cost.kernels import Kernel
from dtp_edge.cost.memory import weight_bytes
from dtp_edge.cost.terms import TermBuilder, numel
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.profiles.profile import WeightCache


class ColdWeights:
    """What the weights beyond the cache add to each kernel, from the targets that count their bytes."""

    def __init__(
        self,
        graph: LayerGraph,
        kernels: list[Kernel],
        cache: WeightCache,
        precision: str,
        builder: TermBuilder,
        gates: Gates,
    ) -> None:
        self._cache = cache
        self._targets = slice(first := builder.new_targets(len(kernels)), first + len(kernels))
        for index, kernel in enumerate(kernels):
            for name in kernel.weights:
                tensor = graph.tensors[name]
                if len(tensor.shape) > 1:
                    size = [*numel(tensor.shape), *factors(gates.of_kernel(kernel))]
                    builder.add(first + index, weight_bytes(tensor, precision), size)

    def add(self, values: np.ndarray, latency: np.ndarray) -> None:
        """Add milliseconds to `latency`, `[n_kernels]`, in place."""
        held = values[self._targets]
        total = held.sum()
        if total > self._cache.bytes:
            beyond_ms = 1e3 * (total - self._cache.bytes) / self._cache.bytes_per_second
            latency += beyond_ms * held / total

    def add_upstream(self, values: np.ndarray, grad: np.ndarray) -> None:
        """Add d latency_ms / d targets, in place."""
        if values[self._targets].sum() > self._cache.bytes:
            grad[self._targets] += 1e3 / self._cache.bytes_per_second
