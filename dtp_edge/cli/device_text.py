"""Profiles in words: the rows of `dtp-edge devices`, and the page of one device."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dtp_edge.cost.network_cost import NetworkCost
from dtp_edge.errors import InputError
from dtp_edge.graph.layers import Dim, Layer, LayerGraph, Tensor
from dtp_edge.measure.devices import load_profile
from dtp_edge.profiles.profile import Profile
from dtp_edge.profiles.shipped import list_profiles

COLUMNS = 80
STAIRCASE = (4, 8, 12, 15, 16, 17, 20, 24, 28, 31, 32, 33, 36, 40, 48, 56, 63, 64, 65, 80, 96)


@dataclass(frozen=True)
class DeviceRow:
    """One profile of the list. `error` is short text such as "±8 %", `status` how it came about."""

    name: str
    device: str
    chip: str
    kind: str
    vendor: str
    runtime: str
    precision: str
    threads: int
    error: str
    status: str

    def texts(self) -> tuple[str, ...]:
        """Return what a text is looked for in."""
        return self.name, self.device, self.chip, self.vendor, self.runtime


def device_rows(
    precision: str | None = None,
    runtime: str | None = None,
    *,
    kind: str | None = None,
    vendor: str | None = None,
    text: str | None = None,
) -> list[DeviceRow]:
    """Return the shipped profiles, optionally of one precision, runtime (part of its name), kind ("cpu",
    "gpu", "npu") or vendor (part of its name), or that have a text in any of their names.

    Raises `InputError` for filters that nothing passes.
    """
    profiles = [load_profile(name) for name in list_profiles()]
    rows = [device_row(profile) for profile in profiles]
    if precision is not None:
        rows = [row for row in rows if row.precision == precision.lower()]
    if runtime is not None:
        rows = [row for row in rows if runtime.lower() in row.runtime.lower()]
    if kind is not None:
        rows = [row for row in rows if row.kind == kind]
    if vendor is not None:
        rows = [row for row in rows if vendor.lower() in row.vendor.lower()]
    if text is not None:
        rows = [row for row in rows if text.lower() in " ".join(row.texts()).lower()]
    if not rows:
        precisions, vendors = {p.precision for p in profiles}, {p.device.vendor for p in profiles}
        hint = f"Precisions: {', '.join(sorted(precisions))}; vendors: {', '.join(sorted(vendors))}."
        raise InputError("no device profile passes these filters", hint=hint)
    return rows


def device_row(profile: Profile) -> DeviceRow:
    """Return the list's row of one profile."""
    error = profile.error.median_relative
    return DeviceRow(
        name=profile.name,
        device=profile.device.name,
        chip=profile.device.chip,
        kind=profile.device.kind,
        vendor=profile.device.vendor,
        runtime=f"{profile.runtime.name} {profile.runtime.version}",
        precision=profile.precision,
        threads=profile.threads,
        error="unknown" if error is None else f"±{100 * error:.0f} %",
        status=profile.error.status,
    )


def describe_profile(profile: Profile) -> str:
    """Return a page of at most 80 columns: what it is, how right, fast and slow kernels, the channel
    staircase, limits, provenance."""
    device, runtime = profile.device, profile.runtime
    lines = [
        f"{profile.name}",
        *_wrap(f"{device.name}: {device.chip}, {device.cores}, {device.clock_mhz:g} MHz"),
        f"{runtime.name} {runtime.version}, {profile.precision}, {profile.threads} thread(s)",
    ]
    if profile.description:
        lines += ["", *_wrap(profile.description)]
    lines += ["", "How right it is", *_wrap(profile.error.text(), "  ")]
    if profile.error.notes:
        lines += _wrap(profile.error.notes, "  ")
    lines += ["", "Fast and slow (MAC/s include bytes and overhead; * is extrapolated)", *_speeds(profile)]
    lines += ["", "Channel staircase: 3x3 convolution, 64 -> c channels, 28 x 28", *staircase(profile)]
    lines += ["", "Limits", *_limits(profile)]
    lines += ["", "Where it comes from", *_provenance(profile)]
    return "\n".join(lines)


def staircase(profile: Profile, widths: Iterable[int] = STAIRCASE) -> list[str]:
    """Return one text line an output width: a bar as long as the layer takes."""
    widths = list(widths)
    graph = conv_graph(64, max(widths), 3, 28)
    try:
        cost = NetworkCost(graph, profile)
    except InputError as error:
        return [f"  not available: {error.what}"]
    times = np.array([cost.evaluate(np.array([float(c)]))["latency_ms"] for c in widths])
    bars = np.maximum(1, np.round(48 * times / times.max())).astype(int)
    return [f"  {c:3d} {t:10.4g} ms  {'#' * n}" for c, t, n in zip(widths, times, bars, strict=True)]


def _speeds(profile: Profile) -> list[str]:
    cases = [
        ("1x1 convolution, 64 -> 64, 28 x 28", conv_graph(64, 64, 1, 28)),
        ("3x3 convolution, 64 -> 64, 28 x 28", conv_graph(64, 64, 3, 28)),
        ("3x3 convolution, 256 -> 256, 14 x 14", conv_graph(256, 256, 3, 14)),
        ("3x3 depthwise, 128, 28 x 28", conv_graph(128, 128, 3, 28, depthwise=True)),
        ("linear, 512 -> 1000", linear_graph(512, 1000)),
    ]
    found = []
    for what, graph in cases:
        try:
            cost = NetworkCost(graph, profile)
        except InputError:
            continue
        result = cost.evaluate(cost.dense_sizes())
        ms = sum(layer.latency_ms for layer in cost.by_layer(cost.dense_sizes()))
        guess = " *" if cost.extrapolations() else ""
        if ms > 0:
            found.append((result["macs"] / ms / 1e6, what, ms, guess))
    found.sort(reverse=True)
    return [f"  {rate:9.3g} GMAC/s  {ms:9.4g} ms  {what}{guess}" for rate, what, ms, guess in found]


def _limits(profile: Profile) -> list[str]:
    known = {"RAM": profile.limits.ram_bytes, "flash": profile.limits.flash_bytes}
    lines = [f"  {what}: {_bytes(size)}" for what, size in known.items() if size is not None]
    if profile.power is not None:
        spread = f"±{100 * profile.power.relative_spread:.0f} %"
        lines.append(f"  power: {1e3 * profile.power.watts:.3g} mW, {spread} between networks")
    rate = profile.memory_bytes_per_second / 1e9
    lines.append(f"  memory: {rate:.3g} GB/s; one call: {profile.graph_overhead_ms:.3g} ms")
    if profile.input_ns_per_value:
        lines.append(f"  the host's share: {profile.input_ns_per_value:.3g} ns for each value of the input")
    if profile.weight_cache is not None:
        beyond, rate = _bytes(profile.weight_cache.bytes), profile.weight_cache.bytes_per_second / 1e9
        lines.append(f"  a network's weights beyond {beyond} are read at {rate:.3g} GB/s on top")
    if profile.layout is not None:
        lines.append(
            f"  channels run in blocks of {profile.layout.block}; widths that are not a multiple of "
            f"{profile.layout.align} run slower"
        )
    return lines


def _provenance(profile: Profile) -> list[str]:
    p = profile.provenance
    facts = [("source", p.source), ("url", p.url), ("how", p.how), ("date", p.date), ("licence", p.licence)]
    facts += [("device facts", p.facts), ("spread", p.spread), ("made by", p.recipe)]
    return [line for name, text in facts if text for line in _wrap(f"{name}: {text}", "  ")]


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, COLUMNS, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False
    )


def _bytes(size: float) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.4g} {unit}"
    return f"{size:.0f} bytes"


def conv_graph(cin: int, cout: int, kernel: int, size: int, depthwise: bool = False) -> LayerGraph:
    """Return a graph of one convolution, bias and ReLU whose output width is prunable."""
    out = Dim(cout, 0)
    channels = out if depthwise else Dim(cin)
    tensors = [
        Tensor("x", (Dim(1), channels, Dim(size), Dim(size)), "input"),
        Tensor("w", (out, Dim(1) if depthwise else channels, Dim(kernel), Dim(kernel)), "parameter"),
        Tensor("b", (out,), "parameter"),
        Tensor("y", (Dim(1), out, Dim(size), Dim(size)), "activation"),
        Tensor("z", (Dim(1), out, Dim(size), Dim(size)), "activation"),
    ]
    attributes = {
        "kernel_size": (kernel, kernel),
        "stride": (1, 1),
        "padding": (kernel // 2, kernel // 2),
        "dilation": (1, 1),
        "groups": cin if depthwise else 1,
        "transposed": False,
    }
    layers = (
        Layer("conv", "conv2d", "conv", ("x", "w", "b"), ("y",), attributes),
        Layer("act", "relu", "act", ("y",), ("z",)),
    )
    return _graph(layers, tensors, cout, "z")


def linear_graph(cin: int, cout: int) -> LayerGraph:
    """Return a graph of one linear layer whose output width is prunable."""
    tensors = [
        Tensor("x", (Dim(1), Dim(cin)), "input"),
        Tensor("w", (Dim(cout, 0), Dim(cin)), "parameter"),
        Tensor("b", (Dim(cout, 0),), "parameter"),
        Tensor("y", (Dim(1), Dim(cout, 0)), "activation"),
    ]
    return _graph((Layer("fc", "linear", "fc", ("x", "w", "b"), ("y",)),), tensors, cout, "y")


def _graph(layers: tuple[Layer, ...], tensors: list[Tensor], atoms: int, output: str) -> LayerGraph:
    widths = (np.arange(atoms, dtype=np.int32)[:, None],)
    return LayerGraph(layers, {t.name: t for t in tensors}, widths, atoms, ("x",), (output,))
