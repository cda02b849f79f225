"""Latency of the kernels of one network on one profile.

Additive kernels are sums of products in milliseconds, so all of them together are a handful of array
operations; analytical kernels take the largest of three such sums; measured tables are asked once a
family with the features of all their kernels. A kernel whose family the profile lacks is costed by the
nearest family or by its bytes over the memory bandwidth, and says so in its source; it is never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dtp_edge.cost.kernels import Kernel, as_tuple
from dtp_edge.cost.layout import BLOCKED, PLAIN, STEM
from dtp_edge.cost.layout_terms import LayoutTerms
from dtp_edge.cost.memory import activation_bytes, weight_bytes
from dtp_edge.cost.ops import COMPUTE_FAMILIES
from dtp_edge.cost.profile import KernelModel, Profile, RateModel, TableModel
from dtp_edge.cost.terms import Factor, TermBuilder, numel
from dtp_edge.cost.work import channels, products
from dtp_edge.errors import InputError, nearest
from dtp_edge.graph.layers import Dim, LayerGraph

_NEAREST = {
    "conv3x3": ("conv", "conv1x1"),
    "conv": ("conv3x3", "conv1x1"),
    "conv1x1": ("conv", "linear"),
    "depthwise": ("grouped", "conv", "conv1x1"),
    "grouped": ("conv", "conv1x1"),
    "conv_transpose": ("conv", "conv3x3", "conv1x1"),
    "linear": ("matmul", "conv1x1"),
    "matmul": ("linear", "conv1x1"),
    "recurrent": ("linear", "matmul"),
}
_FEATURES = """cin cout groups kh kw stride in_h in_w out_h out_w macs weight_bytes in_bytes out_bytes
extra_bytes elements rows batch last rank"""
FEATURES = tuple(_FEATURES.split())
_GROWING = frozenset(FEATURES) - {
    "kh",
    "kw",
    "stride",
    "in_h",
    "in_w",
    "out_h",
    "out_w",
    "rank",
}  # with the widths


@dataclass
class Resolved:
    """The model of one kernel, and where its numbers come from."""

    model: KernelModel
    source: str
    key: str


@dataclass
class _TableGroup:
    evaluate: Callable[[dict[str, np.ndarray]], np.ndarray]
    uses: tuple[str, ...]
    variant: int = BLOCKED
    kernels: list[int] = field(default_factory=list)
    factor: list[float] = field(default_factory=list)
    first: int = 0


def resolve(kernel: Kernel, profile: Profile, suffix: str = "") -> Resolved:
    """Return the most specific model of a kernel. Raises `InputError` where nothing can be said."""
    for family in (kernel.family, *_NEAREST.get(kernel.family, ())):
        for key in (f"{family}{suffix}.{kernel.op}", f"{family}.{kernel.op}", f"{family}{suffix}", family):
            model = profile.kernels.get(key)
            if model is not None:
                source = model.source
                if family != kernel.family:
                    source = f"extrapolated: {kernel.family} costed as {key} ({source})"
                return Resolved(model, source, key)
    if kernel.family in COMPUTE_FAMILIES:
        known = sorted(profile.kernels)
        raise InputError(
            f"profile {profile.name} cannot cost {kernel.op} ({kernel.family}): it has no such kernel family",
            where=kernel.module or kernel.name,
            hint=f"It has {', '.join(known)}; nearest: {', '.join(nearest(kernel.family, known)) or 'none'}.",
        )
    return Resolved(_by_bandwidth(profile), _bandwidth_text(kernel, profile), "bytes/bandwidth")


def _by_bandwidth(profile: Profile) -> RateModel:
    overheads = [m.overhead_ms for m in profile.kernels.values() if isinstance(m, RateModel)]
    return RateModel(
        form="additive",
        macs_per_second=None,
        bytes_per_second=profile.memory_bytes_per_second,
        weight_bytes_per_second=profile.memory_bytes_per_second,
        overhead_ms=float(np.median(overheads)) if overheads else 0.0,
        source="extrapolated",
    )


def _bandwidth_text(kernel: Kernel, profile: Profile) -> str:
    what = f"op {kernel.op}" if kernel.family == "other" else f"family {kernel.family}"
    rate = profile.memory_bytes_per_second / 1e9
    return f"extrapolated: {what} is not in the profile; bytes / {rate:.3g} GB/s + median overhead"


class LatencyModel:
    """Targets and tables for the kernels of one network; `per_kernel` and `upstream` read all targets.

    `views` (see `kernels.Lowered`) are only needed for a profile with blocked layouts.
    """

    def __init__(
        self,
        graph: LayerGraph,
        kernels: list[Kernel],
        profile: Profile,
        precision: str,
        builder: TermBuilder,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self._graph, self._precision, self._builder = graph, precision, builder
        self.kernels = kernels
        self.overhead_ms = profile.graph_overhead_ms
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
        for group in self._tables.values():
            group.first = builder.new_targets(len(FEATURES) * len(group.kernels))
            for place, index in enumerate(group.kernels):
                step = (1, 1) if profile.layout else self.resolved[index].model.channel_step
                self._add_features(group, place, kernels[index], step)
        self._layout = profile.layout and LayoutTerms(graph, kernels, profile, views or {}, builder)
        self._hinge_rows = np.array([h[0] for h in self._hinges], dtype=np.intp)
        self._hinge_targets = np.array([h[1] for h in self._hinges], dtype=np.intp)
        self._hinge_free = np.array([h[2] for h in self._hinges])
        self._roof_rows = np.array([r[0] for r in self._roofs], dtype=np.intp)
        self._roof_first = np.array([r[1] for r in self._roofs], dtype=np.intp)

    def per_kernel(self, values: np.ndarray) -> np.ndarray:
        """Return latency_ms of each kernel, `[n_kernels]`, from all target values."""
        latency = values[self.first : self.first + len(self.kernels)].copy()
        if self._roofs:
            latency[self._roof_rows] += values[self._roof_first[:, None] + np.arange(3)].max(axis=1)
        if self._hinges:
            over = values[self._hinge_targets] - self._hinge_free
            latency[self._hinge_rows] += np.maximum(over, 0.0)
        variant = self._layout.variants(values) if self._layout else None
        for group in self._tables.values():
            features = self._features(group, values)
            if variant is None or self._layout is None:
                latency[group.kernels] += self._table_latency(group, features)
                continue
            runs, features = self._layout.select(group.kernels, group.variant, variant, features)
            if runs.any():
                cost = np.asarray(group.evaluate(features)) * np.asarray(group.factor)[runs]
                latency[np.asarray(group.kernels)[runs]] += cost
        if self._layout:
            self._layout.add_copies(values, latency)
        return latency

    def upstream(self, values: np.ndarray) -> np.ndarray:
        """Return d latency_ms / d targets."""
        grad = np.zeros(len(values))
        grad[self.first : self.first + len(self.kernels)] = 1.0
        if self._roofs:
            index = self._roof_first[:, None] + np.arange(3)
            grad[index[np.arange(len(index)), values[index].argmax(axis=1)]] = 1.0
        if self._hinges:
            grad[self._hinge_targets] = values[self._hinge_targets] > self._hinge_free
        variant = self._layout.variants(values) if self._layout else None
        for group in self._tables.values():
            runs = np.ones(len(group.kernels), dtype=bool)
            if variant is not None and self._layout is not None:
                runs = self._layout.runs(group.kernels, group.variant, variant)
            self._table_upstream(group, values, grad, runs)
        return grad

    def _add_rates(self, index: int, kernel: Kernel, model: RateModel, factor: float) -> None:
        rows = [self.first + index] * 3
        if model.form == "analytical":
            start = self._builder.new_targets(3)
            rows = [start, start + 1, start + 2]
            self._roofs.append((index, start))
        add = self._builder.add
        if model.macs_per_second is not None:
            for coefficient, factors in _bent_work(kernel, self._graph, model):
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
            from dtp_edge.cost.table import TableKernel

            assert isinstance(found.model, TableModel)
            table = TableKernel.from_json(found.model.document, f"kernels.{found.key}")
            group = _TableGroup(table.latency_ms, tuple(table.uses), variant)
            self._tables[found.key, variant] = group
        group.kernels.append(index)
        group.factor.append(factor)

    def _add_features(self, group: _TableGroup, place: int, kernel: Kernel, step: tuple[int, int]) -> None:
        n = len(group.kernels)
        for name, terms in kernel_features(kernel, self._graph, self._precision, step).items():
            target = group.first + FEATURES.index(name) * n + place
            for coefficient, factors in terms:
                self._builder.add(target, coefficient, factors)

    def _features(self, group: _TableGroup, values: np.ndarray) -> dict[str, np.ndarray]:
        n = len(group.kernels)
        block = values[group.first : group.first + len(FEATURES) * n].reshape(len(FEATURES), n)
        return dict(zip(FEATURES, block, strict=True))

    def _table_latency(self, group: _TableGroup, features: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(group.evaluate(features)) * np.asarray(group.factor)

    def _table_upstream(
        self, group: _TableGroup, values: np.ndarray, grad: np.ndarray, runs: np.ndarray
    ) -> None:
        features = self._features(group, values)
        n = len(group.kernels)
        for name in group.uses:
            if name not in _GROWING:
                continue
            here = features[name]
            h = np.maximum(0.02 * here, 1e-6)
            high = self._table_latency(group, {**features, name: here + h})
            low = self._table_latency(group, {**features, name: here - h})
            start = group.first + FEATURES.index(name) * n
            grad[start : start + n] = runs * (high - low) / (2 * h)


Terms = list[tuple[float, list[Factor]]]


def _bent_work(kernel: Kernel, graph: LayerGraph, model: RateModel) -> Terms:
    """Return work (see `RateModel`) as terms: the saturation factors multiplied out."""
    cin, cout, pixels = channels(kernel, graph)
    step_in, step_out = model.channel_step
    side_step = {"in": step_in, "out": step_out, "": 1}
    result: Terms = []
    for product in products(kernel, graph):
        terms: Terms = [(1.0, [(dim, side_step[side]) for dim, side in product])]
        for bend, gone in zip(
            model.saturation, ([(cin, step_in)], [(cout, step_out)], _unit(pixels)), strict=True
        ):
            if bend:
                terms += [(bend * c, rest) for c, f in terms if (rest := _without(f, gone)) is not None]
        result += terms
    return result


def _unit(dims: list[Dim]) -> list[Factor]:
    return [(dim, 1) for dim in dims]


def _without(factors: list[Factor], gone: list[Factor]) -> list[Factor] | None:
    """Return factors with `gone` divided out, None where they are not all there (no such saturation)."""
    rest = list(factors)
    for factor in gone:
        if factor not in rest:
            if factor[0].width is None and factor[0].size == 1:
                continue
            return None
        rest.remove(factor)
    return rest


def kernel_features(
    kernel: Kernel, graph: LayerGraph, precision: str, step: tuple[int, int] = (1, 1)
) -> dict[str, Terms]:
    """Return the features that measured tables read, each a sum of products; see `FEATURES`."""
    cin, cout, pixels = channels(kernel, graph)
    first = kernel.layers[0]
    out = graph.tensors[first.outputs[0]].shape
    source = graph.tensors[kernel.inputs[0] if kernel.inputs else first.inputs[0]].shape
    attributes = kernel.attributes
    kernel_size = _spatial_kernel(kernel, graph)
    side = {"in": step[0], "out": step[1], "": 1}
    fixed: dict[str, Terms] = {
        "groups": [(1.0, _groups(kernel, attributes, cin))],
        "kh": [(float(kernel_size[0]), [])],
        "kw": [(float(kernel_size[-1]), [])],
        "stride": [(float(max(as_tuple(attributes.get("stride") or 1) or (1,))), [])],
        "cin": [(1.0, [(cin, step[0])])],
        "cout": [(1.0, [(cout, step[1])])],
        "rows": [(1.0, _unit(pixels))],
        "last": [(1.0, _unit(list(out[-1:])))],
        "rank": [(float(len(out)), [])],
        "elements": [(1.0, numel(out))],
        "macs": [(1.0, [(d, side[s]) for d, s in product]) for product in products(kernel, graph)],
        "batch": [(1.0, numel(out[:-2]))] if kernel.family == "matmul" else [(1.0, [])],
    }
    for label, shape in (("in", source), ("out", out)):
        spatial = list(shape[2:]) if len(shape) >= 3 else []
        fixed[f"{label}_h"] = [(1.0, _unit(spatial[:1]))]
        fixed[f"{label}_w"] = [(1.0, _unit(spatial[1:]))]
    reads = [n for n in kernel.inputs if n != kernel.fused_operand]
    extra = [kernel.fused_operand] if kernel.fused_operand else []
    for label, names in (("in_bytes", reads), ("out_bytes", kernel.outputs), ("extra_bytes", extra)):
        tensors = [graph.tensors[n] for n in names]
        fixed[label] = [(float(activation_bytes(t, precision)), numel(t.shape)) for t in tensors]
    weights = [graph.tensors[n] for n in kernel.weights]
    fixed["weight_bytes"] = [(float(weight_bytes(t, precision)), numel(t.shape)) for t in weights]
    return fixed


def _groups(kernel: Kernel, attributes: object, cin: Dim) -> list[Factor]:
    if kernel.family == "depthwise":
        return [(cin, 1)]
    groups = kernel.attributes.get("groups", 1)
    return [(Dim(int(groups)), 1)]  # type: ignore[call-overload]


def _spatial_kernel(kernel: Kernel, graph: LayerGraph) -> tuple[int, ...]:
    given = kernel.attributes.get("kernel_size")
    if given:
        return as_tuple(given)
    if "conv" in kernel.op and kernel.weights:
        shape = graph.tensors[kernel.weights[0]].shape
        if len(shape) > 2:
            return tuple(d.size for d in shape[2:])
    return (1,)
