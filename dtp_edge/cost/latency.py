"""Latency of the kernels of one network on one profile.

Additive kernels are sums of products in milliseconds, so all of them together are a handful of array
operations; analytical kernels take the largest of three such sums; measured tables are asked once a
family with the features of all their kernels. A kernel whose family the profile lacks is costed by the
nearest family or by its bytes over the memory bandwidth, and says so in its source; it is never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dtp_edge.cost.features import FEATURES, GROWING, bent_work, kernel_features
from dtp_edge.cost.gate_factors import Gates, factors
from dtp_edge.cost.kernels import Kernel
from dtp_edge.cost.layout import BLOCKED, PLAIN, STEM
from dtp_edge.cost.layout_terms import LayoutTerms
from dtp_edge.cost.memory import activation_bytes, weight_bytes
from dtp_edge.cost.outside import Outside, far_from_rows, shares
from dtp_edge.cost.resolve import Resolved, resolve
from dtp_edge.cost.table import TableKernel, table_of
from dtp_edge.cost.terms import TermBuilder, numel
from dtp_edge.cost.weight_cache import ColdWeights
from dtp_edge.errors import InputError
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.profiles.profile import Profile, RateModel, TableModel


@dataclass
class _TableGroup:
    table: TableKernel
    variant: int = BLOCKED
    kernels: list[int] = field(default_factory=list)
    factor: list[float] = field(default_factory=list)
    first: int = 0


class LatencyModel:
    """Targets and tables for the kernels of one network; `per_kernel` and `upstream` read all targets.

    `views` (see `kernels.Lowered`) are only needed for a profile with blocked layouts. `known` holds tables
    of this profile that were made ready already, by key; new ones are added.
    """

    def __init__(
        self,
        graph: LayerGraph,
        kernels: list[Kernel],
        profile: Profile,
        precision: str,
        builder: TermBuilder,
        gates: Gates,
        views: Mapping[str, str] | None = None,
        known: dict[str, TableKernel] | None = None,
    ) -> None:
        self._known = {} if known is None else known
        self._graph, self._precision, self._builder = graph, precision, builder
        self.kernels = kernels
        values = sum(graph.tensors[name].dense_values for name in graph.inputs)
        self.overhead_ms = profile.graph_overhead_ms + 1e-6 * profile.input_ns_per_value * values
        self.resolved = [resolve(kernel, profile) for kernel in kernels]
        self.first = builder.new_targets(len(kernels))
        self._roofs: list[tuple[int, int]] = []
        self._hinges: list[tuple[int, int, float]] = []  # kernel, target in ms, ms that are free
        self._tables: dict[tuple[str, int], _TableGroup] = {}
        for index, (kernel, found) in enumerate(zip(kernels, self.resolved, strict=True)):
            factor = found.model.op_factor.get(kernel.op, 1.0)
            for op in kernel.fused:
                each = 1e-6 * profile.fusion.activation_ns_per_value.get(op, 0.0)
                builder.add(self.first + index, each, numel(graph.tensors[kernel.outputs[0]].shape))
            if isinstance(found.model, TableModel):
                self._join_table(index, found, factor)
                if profile.layout is not None:
                    for variant, suffix in ((PLAIN, "_plain"), (STEM, "_stem")):
                        self._join_table(index, resolve(kernel, profile, suffix), factor, variant)
            else:
                self._add_rates(index, kernel, found.model, factor)
        if self._tables:
            self._network_bytes = self._count_weights(gates)
        for group in self._tables.values():
            group.first = builder.new_targets(len(FEATURES) * len(group.kernels))
            for place, index in enumerate(group.kernels):
                step = (1, 1) if profile.layout else self.resolved[index].model.channel_step
                self._add_features(group, place, kernels[index], step)
        layout = profile.layout
        tables = self._known
        self._layout = layout and LayoutTerms(graph, kernels, profile, layout, views or {}, builder, tables)
        cache = profile.weight_cache
        self._cold = cache and ColdWeights(graph, kernels, cache, precision, builder, gates)
        self._behind = [(i, g) for i, k in enumerate(kernels) if (g := gates.of_kernel(k)) is not None]
        self._gate_rows = np.array([i for i, _ in self._behind], dtype=np.intp)
        self._first_gate = builder.new_targets(len(self._behind))
        for place, (_, gate) in enumerate(self._behind):
            builder.add(self._first_gate + place, 1.0, factors(gate))
        self._hinge_rows = np.array([h[0] for h in self._hinges], dtype=np.intp)
        self._hinge_targets = np.array([h[1] for h in self._hinges], dtype=np.intp)
        self._hinge_free = np.array([h[2] for h in self._hinges])
        self._roof_rows = np.array([r[0] for r in self._roofs], dtype=np.intp)
        self._roof_first = np.array([r[1] for r in self._roofs], dtype=np.intp)

    def per_kernel(self, values: np.ndarray) -> np.ndarray:
        """Return latency_ms of each kernel, `[n_kernels]`, from all target values."""
        latency = self._gates(values) * self._alone(values)
        if self._cold:
            self._cold.add(values, latency)
        return latency

    def _gates(self, values: np.ndarray) -> np.ndarray:
        """Return how far the gates before each kernel are open, `[n_kernels]`."""
        opened = np.ones(len(self.kernels))
        opened[self._gate_rows] = values[self._first_gate : self._first_gate + len(self._behind)]
        return opened

    def _alone(self, values: np.ndarray) -> np.ndarray:
        """Return latency_ms of each kernel where it runs, `[n_kernels]`."""
        latency = values[self.first : self.first + len(self.kernels)].copy()
        if self._roofs:
            latency[self._roof_rows] += values[self._roof_first[:, None] + np.arange(3)].max(axis=1)
        if self._hinges:
            over = values[self._hinge_targets] - self._hinge_free
            latency[self._hinge_rows] += np.maximum(over, 0.0)
        variant = self._layout.variants(values) if self._layout else None
        for group in self._tables.values():
            if variant is None or self._layout is None:
                latency[group.kernels] += self._table_latency(group, self._features(group, values))
                continue
            if self._layout.runs(group.kernels, group.variant, variant).any():
                features = self._features(group, values)
                runs, features = self._layout.select(group.kernels, group.variant, variant, features)
                cost = np.asarray(group.table.latency_ms(features)) * np.asarray(group.factor)[runs]
                latency[np.asarray(group.kernels)[runs]] += cost
        if self._layout:
            self._layout.add_copies(values, latency)
        return latency

    def upstream(self, values: np.ndarray) -> np.ndarray:
        """Return d latency_ms / d targets."""
        grad = np.zeros(len(values))
        opened = self._gates(values)
        grad[self.first : self.first + len(self.kernels)] = opened
        if self._behind:
            alone = self._alone(values)[self._gate_rows]
            grad[self._first_gate : self._first_gate + len(self._behind)] = alone
        if self._roofs:
            index = self._roof_first[:, None] + np.arange(3)
            grad[index[np.arange(len(index)), values[index].argmax(axis=1)]] = opened[self._roof_rows]
        if self._hinges:
            over = values[self._hinge_targets] > self._hinge_free
            grad[self._hinge_targets] = over * opened[self._hinge_rows]
        if self._cold:
            self._cold.add_upstream(values, grad)
        variant = self._layout.variants(values) if self._layout else None
        for group in self._tables.values():
            runs = np.ones(len(group.kernels), dtype=bool)
            if variant is not None and self._layout is not None:
                runs = self._layout.runs(group.kernels, group.variant, variant)
            self._table_upstream(group, values, grad, runs, opened)
        return grad

    def outside(self, values: np.ndarray) -> list[Outside]:
        """Return the kernels that the profile's own rows say little of, those that take most first."""
        if not self._tables:
            return []  # rates know no range
        why = {i: found.source for i, found in enumerate(self.resolved) if found.extrapolated}
        variant = self._layout.variants(values) if self._layout else None
        for (family, _), group in self._tables.items():
            far, most = group.table.apart(self._features(group, values))
            for place, index in enumerate(group.kernels):
                here = variant is None or variant[index] == group.variant
                if here and index not in why and (text := far_from_rows(family, far[place], most[place])):
                    why[index] = text
        share = shares(self.per_kernel(values))
        found = [Outside(self.kernels[i].name, self.kernels[i].family, float(share[i]), why[i]) for i in why]
        return sorted((one for one in found if one.share > 0), key=lambda one: -one.share)

    def _add_rates(self, index: int, kernel: Kernel, model: RateModel, factor: float) -> None:
        rows = [self.first + index] * 3
        if model.form == "analytical":
            start = self._builder.new_targets(3)
            rows = [start, start + 1, start + 2]
            self._roofs.append((index, start))
        add = self._builder.add
        if model.macs_per_second is not None:
            for coefficient, factors in bent_work(kernel, self._graph, model):
                add(rows[0], 1e3 * factor * coefficient / model.macs_per_second, factors)
        for name in [*kernel.inputs, *kernel.outputs]:
            tensor = self._graph.tensors[name]
            scale = 1e3 * factor * activation_bytes(tensor, self._precision) / model.bytes_per_second
            add(rows[1], scale, numel(tensor.shape))
        if model.spill_bytes is not None:
            self._add_spill(index, kernel, model, factor)
        for name in kernel.weights:
            tensor = self._graph.tensors[name]
            scale = 1e3 * factor * weight_bytes(tensor, self._precision) / model.weight_bytes_per_second
            add(rows[2], scale, numel(tensor.shape))
        self._builder.add_fixed(self.first + index, model.overhead_ms * factor)

    def _add_spill(self, index: int, kernel: Kernel, model: RateModel, factor: float) -> None:
        per_byte = 1e3 * factor / model.spill_bytes_per_second
        target = self._builder.new_targets()
        self._hinges.append((index, target, per_byte * (model.spill_bytes or 0.0)))
        for name in [*kernel.inputs, *kernel.outputs]:
            tensor = self._graph.tensors[name]
            scale = per_byte * activation_bytes(tensor, self._precision)
            self._builder.add(target, scale, numel(tensor.shape))

    def _join_table(self, index: int, found: Resolved, factor: float, variant: int = BLOCKED) -> None:
        group = self._tables.get((found.key, variant))
        if group is None:
            if not isinstance(found.model, TableModel):
                raise InputError(
                    "is not a table, but the family that it is a variant of is one",
                    where=f"kernels.{found.key}",
                    hint="Give both forms as tables.",
                )
            table = table_of(self._known, found.key, found.model)
            group = _TableGroup(table, variant)
            self._tables[found.key, variant] = group
        group.kernels.append(index)
        group.factor.append(factor)

    def _add_features(self, group: _TableGroup, place: int, kernel: Kernel, step: tuple[int, int]) -> None:
        n = len(group.kernels)
        for name, terms in kernel_features(kernel, self._graph, self._precision, step).items():
            target = group.first + FEATURES.index(name) * n + place
            for coefficient, product in terms:
                self._builder.add(target, coefficient, product)

    def _features(self, group: _TableGroup, values: np.ndarray) -> dict[str, np.ndarray]:
        n = len(group.kernels)
        block = values[group.first : group.first + len(FEATURES) * n].reshape(len(FEATURES), n)
        features: dict[str, np.ndarray] = dict(zip(FEATURES, block, strict=True))
        features["network_bytes"] = np.full(n, values[self._network_bytes])
        return features

    def _count_weights(self, gates: Gates) -> int:
        """Return a target for the bytes of all matrices and convolution kernels of the network."""
        target = self._builder.new_targets()
        for kernel in self.kernels:
            for name in kernel.weights:
                tensor = self._graph.tensors[name]
                if len(tensor.shape) > 1:
                    size = [*numel(tensor.shape), *factors(gates.of_weight(name))]
                    self._builder.add(target, weight_bytes(tensor, self._precision), size)
        return target

    def _table_latency(self, group: _TableGroup, features: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(group.table.latency_ms(features)) * np.asarray(group.factor)

    def _table_upstream(
        self, group: _TableGroup, values: np.ndarray, grad: np.ndarray, runs: np.ndarray, opened: np.ndarray
    ) -> None:
        """Add central differences of the running kernels, all features in one question to the table."""
        index = np.flatnonzero(runs)
        if not len(index):
            return
        features = {name: column[index] for name, column in self._features(group, values).items()}
        names = [name for name in group.table.uses if name in GROWING]
        asked = {name: np.tile(column, 2 * len(names)) for name, column in features.items()}
        n, steps = len(index), []
        for place, name in enumerate(names):
            h = np.maximum(0.02 * features[name], 1e-6)
            asked[name][2 * place * n : (2 * place + 1) * n] += h
            asked[name][(2 * place + 1) * n : (2 * place + 2) * n] -= h
            steps.append(h)
        cost = np.asarray(group.table.latency_ms(asked)).reshape(len(names), 2, n)
        factor = (np.asarray(group.factor) * opened[group.kernels])[index]
        slopes = (cost[:, 0] - cost[:, 1]) / (2 * np.array(steps)) * factor
        for name, slope in zip(names, slopes, strict=True):
            if name == "network_bytes":
                grad[self._network_bytes] += slope.sum()
            else:
                grad[group.first + FEATURES.index(name) * len(group.kernels) + index] = slope
