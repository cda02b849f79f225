"""Devices of one maker, measured on networks that packages ship, fitted together: NPUs, GPUs, CPU runtimes.

One additive form for all: MACs by kind of product (channels rounded up to the step that the vendor's
documents give), activations by kind of kernel, weights, launches, what leaves the fast memory, and a call.
Boards share a prior that is learned from them; several tightnesses of it are averaged (see `averaged.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.fitting.averaged import Averaged, Form, fit_averaged
from dtp_edge.fitting.losses import Cauchy, Loss
from dtp_edge.fitting.networks import FUSIONS, NetworkKernel, shipped_networks
from dtp_edge.fitting.rate_documents import kernel_documents
from dtp_edge.fitting.rates import LOSS, Board, KernelRates, Rate, RateSpec, Sample
from dtp_edge.fitting.recipes.kind import Kind, Parts, Recipe
from dtp_edge.fitting.recipes.tables import Found, read_samples
from dtp_edge.fitting.rows import KernelRow

Steps = Mapping[str, Mapping[str, int]]
Line = tuple[str, str, float]
ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "w8a8": 1}
HELD_OUT = (
    "one network family left out on all boards of the table at once, prior included; no rate is chosen by "
    "it; networks that packages ship"
)
_CALL, _COLD, _INPUT = "call", "weights beyond the cache", "input"
_PRODUCTS = {
    "conv1x1": "conv1x1",
    "conv3x3": "kernel3x3",
    "conv": "conv",
    "conv_transpose": "conv",
    "grouped": "grouped",
    "linear": "linear",
    "recurrent": "linear",
    "matmul": "matmul",
}
_MOVERS = {
    "elementwise": "io_elementwise",
    "pool": "io_elementwise",
    "norm": "io_norm",
    "softmax": "io_softmax",
    "layout": "io_layout",
    "resize": "io_layout",
    "embedding": "io_layout",
}
_COMPUTE, _MEMORY, _LAUNCH_US = 1e10, 1.25e9, 20.0  # what a `Rate.start` of 1 stands for
_MOVING = ("io", "io_depthwise", "io_elementwise", "io_norm", "io_softmax", "io_layout", "io_cat")
_SLOW_OPS = dict.fromkeys(("silu", "hardswish", "sigmoid", "hardsigmoid", "tanh"), "io_slow")
_SLOW_OPS |= {
    "gelu": "io_gelu",
    "mish": "io_gelu",
}  # their exact forms take an erf, or two transcendental functions
_SDS, _NOISES = ((0.15, 0.3), (0.15, 0.8), (0.3, 0.3), (0.3, 0.8), (0.8, 0.8)), (0.15, 0.3)
# Of eight variants the one with the lowest held-out medians on the integer tables, so those flatter a little.
_STRAYS: tuple[Loss, ...] = (LOSS, Cauchy(LOSS.scale))


@dataclass(frozen=True)
class Shape:
    """What data sheets say of a family of devices before any measurement; what counts is how they compare.

    `macs`: MACs a second that dense convolutions may reach. `values`: activations a second between kernels,
    in the memory that they stay in; `dram`: values a second of weights, and of activations beyond
    `spill_elements`. `launch_us`: a kernel's own time. `input`: values a second that the host prepares within
    the time that was measured; 0 if it does not.
    """

    macs: float
    values: float
    dram: float
    launch_us: float
    spill_elements: float
    input: float = 0.0
    level_sd: float = 2.5


@dataclass(frozen=True)
class Measurement:
    """One line of a vendor's table: the name it has there, the catalogue's, what is held out together, ms."""

    name: str
    network: str
    family: str
    latency_ms: float


@dataclass(frozen=True)
class Fleet:
    """All boards of one table at one precision; `steps` and `fastest` by board, "" for all others.

    `cache_elements`: so many weights stay on the chip between calls; those beyond are read each time.
    `left_out` names what the table measured and no package ships. `strays`: some networks have operators
    that the runtime has no integer kernels for, and are 3 to 100 times slower than any rates would say;
    which ones cannot be told from their layers, so that a loss that lets go of them is averaged in.
    """

    group: str
    fusion: str
    shape: Shape
    boards: Mapping[str, Sequence[Measurement]]
    steps: Mapping[str, Steps] = field(default_factory=dict)
    fastest: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cache_elements: float | None = None
    left_out: Sequence[str] = ()
    strays: bool = False


def channel_steps(step: int, *, inputs: bool = True, depthwise: bool = True) -> dict[str, dict[str, int]]:
    """Return the step of all products whose channels a device takes in blocks (grouped ones are not
    known).
    """
    both = {"in_channels": step, "out_channels": step} if inputs else {"out_channels": step}
    steps = {key: dict(both) for key in ("conv1x1", "conv3x3", "conv", "linear")}
    return {**steps, "depthwise": {"out_channels": step}} if depthwise else steps


def at_most(macs_per_second: float, rates: Sequence[str] = ("conv", "conv1x1", "linear")) -> dict[str, float]:
    """Return the bound of a data sheet for these rates."""
    return {rate: macs_per_second for rate in rates}  # noqa: C420  fromkeys would not be a dict of str to a checker


def rate_spec(shape: Shape, compute_sd: float, sd: float) -> RateSpec:
    """Return the form: rates differ from their like by `compute_sd` (MACs) and `sd` (all else), in log."""
    compute, memory, dram = _COMPUTE / shape.macs, _MEMORY / shape.values, _MEMORY / shape.dram
    launch = shape.launch_us / _LAUNCH_US
    rates = [Rate(name, "compute", compute, compute_sd) for name in ("conv1x1", "conv", "linear", "matmul")]
    rates += [Rate("kernel3x3", "compute", compute, compute_sd), Rate("grouped", "compute", 2 * compute, sd)]
    rates += [Rate("depthwise", "compute", 5 * compute, sd)]
    rates += [Rate(name, "memory", memory, sd) for name in _MOVING]
    rates += [Rate("io_slow", "memory", 2 * memory, sd), Rate("io_gelu", "memory", 4 * memory, sd)]
    rates += [Rate(name, "memory", dram, sd) for name in ("weights", "cold", "spill")]
    rates += [Rate(name, "overhead", launch, sd) for name in ("launch", "launch_mover", "launch_cat")]
    rates += [Rate(_CALL, "overhead", 5 * launch, 1.0)]
    if shape.input:
        rates += [Rate(_INPUT, "memory", _MEMORY / shape.input, 1.0)]
    kernels = {key: KernelRates(r, "io", "weights", "launch", "spill") for key, r in _PRODUCTS.items()}
    kernels["depthwise"] = KernelRates("depthwise", "io_depthwise", "weights", "launch", "spill")
    kernels |= {key: KernelRates("", r, "", "launch_mover", "spill") for key, r in _MOVERS.items()}
    kernels["layout.cat"] = KernelRates("", "io_cat", "", "launch_cat")
    for op, rate in _SLOW_OPS.items():
        kernels[f"elementwise.{op}"] = KernelRates("", rate, "", "launch_mover", "spill")
    kernels[_CALL] = KernelRates("", "", "", _CALL)
    kernels[_COLD] = KernelRates("", "", "cold", "")
    kernels[_INPUT] = KernelRates("", _INPUT if shape.input else "", "", "")
    return RateSpec(tuple(rates), kernels, shape.level_sd, shape.spill_elements)


def rows_of(
    kernels: Sequence[NetworkKernel], steps: Steps, cache_elements: float | None = None
) -> tuple[KernelRow, ...]:
    """Return a network's kernels as a fit sees them, channels rounded up as the profile will do, and a
    call.
    """
    rows = [KernelRow(_CALL, 0.0, 0.0, 0.0)]
    for entry in kernels:
        kernel, count = entry.kernel, entry.count
        key = _key(kernel.family, kernel.op)
        step, work = steps.get(key, {}), kernel.macs
        for side, size in (("in_channels", kernel.cin), ("out_channels", kernel.cout)):
            work *= -(-size // step.get(side, 1)) * step.get(side, 1) / size
        moved, held = kernel.activation_elements, kernel.weight_elements
        rows.append(KernelRow(key, work * count, moved * count, held * count, count))
    if cache_elements is not None:
        weights = sum(row.weight_elements for row in rows)
        rows.append(KernelRow(_COLD, 0.0, 0.0, max(weights - cache_elements, 0.0)))
    return tuple(rows)


def _key(family: str, op: str) -> str:
    if family == "elementwise" and op in _SLOW_OPS:
        return f"elementwise.{op}"
    if (family, op) == ("layout", "cat"):
        return "layout.cat"
    return "elementwise" if family == "other" else family


def fit_fleet(fleet: Fleet) -> Averaged:
    """Fit every board of a fleet, and hold every network family out."""
    boards = []
    for name, measured in fleet.boards.items():
        steps = _of(fleet.steps, name)
        samples = [_sample(m, fleet, steps) for m in measured]
        boards.append(Board(name, fleet.group, tuple(samples), _of(fleet.fastest, name)))
    specs = [rate_spec(fleet.shape, compute, other) for compute, other in _SDS]
    losses = _STRAYS if fleet.strays else (LOSS,)
    return fit_averaged(
        [
            Form(spec, tuple(boards), noise, loss)
            for spec, noise, loss in itertools.product(specs, _NOISES, losses)
        ]
    )


def _sample(measured: Measurement, fleet: Fleet, steps: Steps) -> Sample:
    kernels = shipped_networks()[measured.network, fleet.fusion]
    rows = rows_of(kernels, steps, fleet.cache_elements)
    return Sample(measured.name, measured.family, rows, measured.latency_ms)


def _of(by_board: Mapping[str, Any], name: str) -> Any:
    return by_board.get(name, by_board.get("", {}))


def fleet_parts(fleet: Fleet, fit: Averaged, board: str, element_bytes: float, how: str) -> Parts:
    """Return one board's part of a fitted fleet as what a recipe makes."""
    index = [b.name for b in fit.boards].index(board)
    spec, theta = fit.spec, fit.theta[index]
    beta = {rate.name: float(value) for rate, value in zip(spec.rates, np.exp(theta), strict=True)}
    kept = {key: rates for key, rates in spec.kernels.items() if key not in (_CALL, _COLD, _INPUT)}
    kernels = kernel_documents(
        replace(spec, kernels=kept), theta, element_bytes, _of(fleet.steps, board), "fitted on whole networks"
    )
    more: dict[str, Any] = {"graph_overhead_ms": float(f"{beta[_CALL]:.4g}")}
    if _INPUT in beta:
        more["input_ns_per_value"] = float(f"{1e6 * beta[_INPUT]:.4g}")
    if fleet.cache_elements is not None:
        rate = float(f"{1e3 * element_bytes / beta['cold']:.4g}")
        more["weight_cache"] = {"bytes": fleet.cache_elements * element_bytes, "bytes_per_second": rate}
    averaged = "ten priors under two losses averaged" if fleet.strays else "ten priors averaged"
    return Parts(kernels, fit.held[index], f"{how}; {averaged}", more)


def fleet_kind(
    name: str,
    read: Callable[[Path, str], Fleet],
    entries: Callable[[], Mapping[str, Recipe]],
    how: str,
    fusion: str = "npu",
) -> Kind:
    """Return the kind whose recipes name a `group` that `read` returns, and a `board` of it."""

    @lru_cache(maxsize=4)
    def fitted(data: Path, group: str) -> tuple[Fleet, Averaged]:
        fleet = read(data, group)
        return fleet, fit_fleet(fleet)

    def build(recipe: Recipe, data: Path) -> Parts:
        fleet, fit = fitted(data.resolve(), recipe["group"])
        return fleet_parts(fleet, fit, recipe["board"], ELEMENT_BYTES[recipe["precision"]], how)

    return Kind(name, build, HELD_OUT, FUSIONS[fusion], entries=entries)


def read_fleet_table(
    path: Path,
    networks: Mapping[str, Sequence[str]],
    fusion: str,
    row: Callable[[Mapping[str, str]], Line | None],
) -> tuple[dict[str, list[Measurement]], list[str]]:
    """Return the measurements of a CSV by board, and the names of networks that no package ships.

    `row` returns (board, the table's name of the network, ms) of a line that is wanted. Raises `InputError`.
    """
    known, left = shipped_networks(), set()
    boards: dict[str, list[Measurement]] = {}

    def found(line: Mapping[str, str]) -> Found | None:
        wanted = row(line)
        if wanted is None:
            return None
        board, name, ms = wanted
        network, family = networks.get(name, ("", ""))
        if (network, fusion) not in known:
            left.add(name)
            return None
        boards.setdefault(board, []).append(Measurement(name, network, family, ms))
        return name, family, (), ms

    read_samples(path, found)
    return boards, sorted(left)
