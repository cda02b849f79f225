"""What a network costs at any widths: latency, RAM, flash, MACs, parameters, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from dtp_edge.cost.gate_factors import Gates, factors
from dtp_edge.cost.kernels import Kernel, lower
from dtp_edge.cost.latency import LatencyModel
from dtp_edge.cost.memory import MemoryPlan, activation_bytes, add_flash, weight_bytes
from dtp_edge.cost.outside import Outside
from dtp_edge.cost.planners import Planner
from dtp_edge.cost.table import TableKernel
from dtp_edge.cost.terms import TermBuilder, numel
from dtp_edge.cost.work import products
from dtp_edge.errors import InputError
from dtp_edge.graph.layers import Dim, LayerGraph, Tensor
from dtp_edge.profiles.profile import HeldOutError, Profile

_MOST_LAYERS = 200_000  # of networks without some of their branches that are remembered: about 0.3 GB

BytesOf = Callable[[Tensor, str], int]
METRICS = ("latency_ms", "peak_ram_bytes", "flash_bytes", "macs", "params")
ENERGY = "energy_mj"  # of a profile that knows the board's power: milliseconds times watts


@dataclass(frozen=True)
class LayerCost:
    """One layer's share. A layer that runs inside another's kernel has latency 0 and names that kernel."""

    name: str
    module: str
    kernel: str
    latency_ms: float
    macs: float
    params: float
    weight_bytes: float
    activation_bytes: float
    source: str
    fused_into: str | None = None


class NetworkCost:
    """The cost of `layers` on `profile` as a function of the widths' sizes (batch 1).

    `precision` overrides the profile's for RAM and flash bytes only; RAM is as `planner` has it, where one is
    given. Every metric is monotone in every
    size, exact at integer sizes (MACs and parameters are exact integers) and linear between integers
    where a device's channel staircase rises. Raises `InputError` where the profile cannot cost a layer.
    `metrics` are what it knows: energy only where the profile knows the board's power.
    """

    def __init__(
        self,
        layers: LayerGraph,
        profile: Profile,
        precision: str | None = None,
        *,
        tables: dict[str, TableKernel] | None = None,
        planner: Planner | None = None,
    ) -> None:
        self.layers, self.profile, self.planner = layers, profile, planner
        self.metrics = METRICS if profile.power is None else (*METRICS, ENERGY)
        self.precision = precision or profile.precision
        if self.precision not in ("fp32", "fp16", "int8", "w8a8", "w8a16"):
            raise InputError(
                f"{self.precision!r} is not one of fp32, fp16, int8, w8a8, w8a16",
                where="precision",
                hint=f"Leave it out for the profile's own, {profile.precision}.",
            )
        lowered = self.lowered = lower(layers, profile.fusion)
        self._tables: dict[str, TableKernel] = {} if tables is None else tables
        self._reduced: dict[frozenset[int], NetworkCost] = {}
        builder = TermBuilder()
        kernels, gates = lowered.kernels, Gates(layers)
        self._gates = gates
        self._latency = LatencyModel(
            layers, kernels, profile, profile.precision, builder, gates, lowered.views, self._tables
        )
        self._memory = self._memory_plan(builder)
        self._flash = add_flash(layers, lowered, profile, self.precision, builder, gates)
        self._params = builder.new_targets()
        for tensor in layers.tensors.values():
            if tensor.role == "parameter":
                size = [*numel(tensor.shape), *factors(gates.of_weight(tensor.name))]
                builder.add(self._params, 1.0, size)
        self._macs = builder.new_targets()
        for kernel in kernels:
            gate = factors(gates.of_kernel(kernel))
            for product in products(kernel, layers):
                builder.add(self._macs, 1.0, [*((dim, 1) for dim, _ in product), *gate])
        self._terms = builder.build()

    def _memory_plan(self, builder: TermBuilder) -> MemoryPlan:
        if self.planner is not None:
            return self.planner.plan(self.layers, self.precision, builder)
        lowered, memory = self.lowered, self.profile.memory
        return MemoryPlan(self.layers, lowered, memory, self.precision, builder, self._gates)

    @property
    def error(self) -> HeldOutError:
        """The profile's relative error on held-out data; `.text()` is one line for a report."""
        return self.profile.error

    def dense_sizes(self) -> np.ndarray:
        """Return the sizes of all widths of the dense network, `[n_widths]`."""
        return np.array([len(w) for w in self.layers.widths], dtype=np.float64)

    def evaluate(self, sizes: np.ndarray) -> dict[str, float]:
        """Return every metric at `sizes`, float `[n_widths]`."""
        if (reduced := self._without_closed(sizes)) is not self:
            return reduced.evaluate(sizes)
        values = self._terms.values(self._slots(sizes))
        latency_ms = float(self._latency.per_kernel(values).sum()) + self._latency.overhead_ms
        power = self.profile.power
        return {
            "latency_ms": latency_ms,
            "peak_ram_bytes": float(self._memory.live(values).max(initial=0.0)),
            "flash_bytes": float(values[self._flash]),
            "macs": float(values[self._macs]),
            "params": float(values[self._params]),
            **({} if power is None else {ENERGY: latency_ms * power.watts}),
        }

    def gradient(self, sizes: np.ndarray, metric: str) -> np.ndarray:
        """Return d metric / d sizes, `[n_widths]`, >= 0; on a staircase the secant over one step.

        Of a closed gate it is what its branch would cost at these sizes.
        """
        raw = self._gradient(sizes, metric)
        reduced = self._without_closed(sizes)
        if reduced is self:
            return raw
        closed = [g.width for g in self.layers.gates if sizes[g.width] == 0]
        found = reduced.gradient(sizes, metric)
        found[closed] = raw[closed]
        return found

    def _gradient(self, sizes: np.ndarray, metric: str) -> np.ndarray:
        slots = self._slots(sizes)
        values = self._terms.values(slots)
        power = self.profile.power
        if metric == "latency_ms":
            upstream = self._latency.upstream(values)
        elif metric == ENERGY and power is not None:
            upstream = power.watts * self._latency.upstream(values)
        elif metric == "peak_ram_bytes":
            upstream = self._memory.upstream(values)
        elif metric in METRICS:
            upstream = np.zeros(len(values))
            upstream[{"flash_bytes": self._flash, "macs": self._macs, "params": self._params}[metric]] = 1.0
        else:
            known = ", ".join(self.metrics)
            raise InputError(f"{metric!r} is not a metric", where="metric", hint=f"One of {known}.")
        return np.maximum(self._terms.vjp(slots, upstream, len(self.layers.widths)), 0.0)

    def _without_closed(self, sizes: np.ndarray) -> NetworkCost:
        """Return the cost of the network without the branches whose gates are 0 at `sizes`."""
        if not (closed := self.layers.closed(sizes)):
            return self
        found = self._reduced.pop(closed, None)
        if found is None:
            known = {"tables": self._tables, "planner": self.planner}
            found = NetworkCost(self.layers.without(closed), self.profile, self.precision, **known)
        self._reduced[closed] = found  # the last of those that were asked for
        if len(self._reduced) * len(self.layers.layers) > _MOST_LAYERS:
            del self._reduced[next(iter(self._reduced))]
        return found

    def by_layer(self, sizes: np.ndarray) -> list[LayerCost]:
        """Return one row a layer in running order; latencies sum to `latency_ms` less the graph overhead.

        A layer behind a closed gate costs nothing, and its source names the branch.
        """
        reduced = self._without_closed(sizes)
        order = {layer.name: i for i, layer in enumerate(self.layers.layers)}
        rows = reduced._rows(sizes)
        if reduced is not self:
            rows += self._gone(sizes, {row.name for row in rows})
        return sorted(rows, key=lambda row: order[row.name])

    def _gone(self, sizes: np.ndarray, left: set[str]) -> list[LayerCost]:
        """Return a row for every layer that closed gates take away."""
        closed = {n: g.name for g in self.layers.gates if sizes[g.width] == 0 for n in g.gone}
        return [
            LayerCost(
                *(x.name, x.module, "gone", 0.0, 0.0, 0.0, 0.0, 0.0),
                source=f"gone with {closed.get(x.name, 'the branches that read it')}",
            )
            for x in self.layers.layers
            if x.name not in left
        ]

    def _rows(self, sizes: np.ndarray) -> list[LayerCost]:
        latency = self._latency.per_kernel(self._terms.values(self._slots(sizes)))
        rows: list[LayerCost] = []
        counted: set[str] = set()
        for index, kernel in enumerate(self.lowered.kernels):
            source, gate = self._latency.resolved[index].source, self._gates.of_kernel(kernel)
            for place, layer in enumerate(kernel.layers):
                inside = place > 0
                rows.append(
                    LayerCost(
                        name=layer.name,
                        module=layer.module,
                        kernel=kernel.family,
                        latency_ms=0.0 if inside else float(latency[index]),
                        macs=0.0 if inside else self._kernel_macs(kernel, sizes),
                        params=self._params_of(layer.inputs, sizes, counted),
                        weight_bytes=0.0
                        if inside
                        else self._bytes(kernel.weights, sizes, weight_bytes, gate),
                        activation_bytes=0.0
                        if inside
                        else self._bytes([*kernel.inputs, *kernel.outputs], sizes, activation_bytes, gate),
                        source=f"inside {kernel.name}" if inside else source,
                        fused_into=kernel.name if inside else None,
                    )
                )
        for layer in self.layers.layers:
            if layer.name in self.lowered.free:
                params = self._params_of(layer.inputs, sizes, counted)
                reason = self.lowered.free[layer.name]
                rows.append(LayerCost(layer.name, layer.module, "free", 0.0, 0.0, params, 0.0, 0.0, reason))
        return rows

    def memory_schedule(self, sizes: np.ndarray) -> list[tuple[str, float]]:
        """Return (layer, live bytes) while each kernel runs; the largest is `peak_ram_bytes`."""
        if (reduced := self._without_closed(sizes)) is not self:
            return reduced.memory_schedule(sizes)
        live = self._memory.live(self._terms.values(self._slots(sizes)))
        return list(zip(self._memory.names, live.tolist(), strict=True))

    def channel_steps(self) -> np.ndarray:
        """Return the multiple up to which each width is free on the device's staircase, int `[n_widths]`."""
        steps = np.ones(len(self.layers.widths), dtype=np.int64)
        if self.profile.layout is not None:  # few channels: whole blocks would leave no choice
            block, align = self.profile.layout.block, self.profile.layout.align
            blocks = np.where(self.dense_sizes() >= 3 * block, block, align).astype(np.int64)
            blocks[self._gates.widths()] = 1
            return blocks
        for width, scale, step in zip(self._terms.width, self._terms.scale, self._terms.step, strict=True):
            if scale == 1.0:
                steps[width] = math.lcm(int(steps[width]), int(step))
        return steps

    def extrapolations(self) -> list[tuple[str, str]]:
        """Return (layer, source) of every kernel whose family the profile does not hold itself."""
        pairs = zip(self.lowered.kernels, self._latency.resolved, strict=True)
        return [(k.name, r.source) for k, r in pairs if r.extrapolated]

    def outside(self, sizes: np.ndarray) -> list[Outside]:
        """Return the layers, at `sizes`, that lie outside of what the profile was measured on."""
        if (reduced := self._without_closed(sizes)) is not self:
            return reduced.outside(sizes)
        return self._latency.outside(self._terms.values(self._slots(sizes)))

    def _slots(self, sizes: np.ndarray) -> np.ndarray:
        sizes = np.asarray(sizes, dtype=np.float64)
        if sizes.shape != (len(self.layers.widths),):
            raise InputError(
                f"shape {sizes.shape} does not fit this network's {len(self.layers.widths)} widths",
                where="sizes",
                hint="Give one size for each entry of `layers.widths`, in that order.",
            )
        return self._terms.slots(sizes)

    def _kernel_macs(self, kernel: Kernel, sizes: np.ndarray) -> float:
        gate = factors(self._gates.of_kernel(kernel))
        dims = ([*(d for d, _ in p), *(d for d, _ in gate)] for p in products(kernel, self.layers))
        return float(sum(_product(p, sizes) for p in dims))

    def _bytes(
        self, names: list[str], sizes: np.ndarray, per_element: BytesOf, gate: int | None = None
    ) -> float:
        tensors = [self.layers.tensors[name] for name in names]
        each = sum(per_element(t, self.precision) * _product(t.shape, sizes) for t in tensors)
        return float(each * (1.0 if gate is None else sizes[gate]))

    def _params_of(self, names: tuple[str, ...], sizes: np.ndarray, counted: set[str]) -> float:
        total = 0.0
        for name in names:
            tensor = self.layers.tensors[name]
            if tensor.role == "parameter" and name not in counted:
                counted.add(name)
                gate = [d for d, _ in factors(self._gates.of_weight(name))]
                total += _product([*tensor.shape, *gate], sizes)
        return total


def _product(dims: Iterable[Dim], sizes: np.ndarray) -> float:
    value = 1.0
    for dim in dims:
        value *= dim.size if dim.width is None else dim.scale * float(sizes[dim.width])
    return value
