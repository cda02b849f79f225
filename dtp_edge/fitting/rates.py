"""Rates of a device from measured latencies: maximum a posteriori on log error, with a prior.

The model is the additive one of `RateModel`: a network's latency is a sum over its kernels of
work/rate + bytes/bandwidth + overhead, linear in beta = 1/rate. We fit theta = log beta by damped
Gauss-Newton on a robust loss of log(predicted/measured), so 10 % too slow and 10 % too fast weigh the
same and one bad measurement cannot drag the rest, with a Gaussian prior on theta. The prior ties the
rates of one board together (a board is fast or slow as a whole, and its memory is as a whole), which is
what keeps a rate that the data cannot see near a physical value instead of at infinity.

`fit_population` learns the prior's mean from many boards at once (empirical Bayes), and
`leave_family_out` holds each network family out on *all* boards, prior included, so that the error it
reports is for networks that nothing here has seen.

Not `scipy.optimize.least_squares`: `profile fit` is part of the core, which would depend on scipy for one
function. A test holds the minimum to scipy's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dtp_edge.fitting.losses import Huber, Loss
from dtp_edge.fitting.rows import KernelRow

SPILL_ELEMENTS = 524_288  # 2 MiB of fp32 in and out: beyond it a kernel's activations leave the cache
LOSS = Huber(0.25)  # of log errors
_LEVEL_SD, _MEMORY_SD, _OVERHEAD_SD = 1.5, 0.5, 0.7


@dataclass(frozen=True)
class Rate:
    """One unknown: `kind` is "compute" (per MAC), "memory" (per element) or "overhead" (per kernel).

    `start` is its size relative to the others of its kind, `sd` how far (in log) it may differ from them.
    """

    name: str
    kind: str
    start: float
    sd: float


@dataclass(frozen=True)
class KernelRates:
    """The names of the rates that cost one kernel family; "" where the family has no such part."""

    macs: str
    activations: str
    weights: str
    overhead: str
    spill: str = ""


@dataclass(frozen=True)
class RateSpec:
    """A model form: the unknowns, and which of them cost which kernel key.

    `spill_elements`: a kernel's activations beyond them leave the device's fast memory.
    """

    rates: tuple[Rate, ...]
    kernels: Mapping[str, KernelRates]
    level_sd: float = _LEVEL_SD
    spill_elements: float = SPILL_ELEMENTS

    def index(self) -> dict[str, int]:
        return {rate.name: i for i, rate in enumerate(self.rates)}


@dataclass(frozen=True)
class Sample:
    """One measured network (or block, or operator) on one board. `family` is what is held out together."""

    name: str
    family: str
    rows: tuple[KernelRow, ...]
    latency_ms: float


@dataclass(frozen=True)
class Board:
    """All samples of one board at one setting; boards of one `group` share a prior mean.

    `fastest` bounds rates by what the datasheet allows: {rate name: units a second}.
    """

    name: str
    group: str
    samples: tuple[Sample, ...]
    fastest: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class HeldOut:
    """Predictions for samples that were not in the fit."""

    names: tuple[str, ...]
    predicted_ms: np.ndarray
    measured_ms: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        return np.abs(self.predicted_ms / self.measured_ms - 1.0)

    def median(self) -> float:
        return float(np.median(self.relative))

    def p90(self) -> float:
        return float(np.quantile(self.relative, 0.9))


_UNIT = {"compute": 1e3 / 1e10, "memory": 4e3 / 5e9, "overhead": 0.02}


def design(spec: RateSpec, samples: Sequence[Sample]) -> np.ndarray:
    """Return how much of each unknown each sample needs, `[n_samples, n_rates]`."""
    index = spec.index()
    matrix = np.zeros((len(samples), len(spec.rates)))
    for line, sample in zip(matrix, samples, strict=True):
        for row in sample.rows:
            rates = spec.kernels[row.key]
            parts = (
                (rates.macs, row.macs),
                (rates.activations, row.activation_elements),
                (rates.weights, row.weight_elements),
                (rates.overhead, row.count),
                (
                    rates.spill,
                    max(row.activation_elements / row.count - spec.spill_elements, 0.0) * row.count,
                ),
            )
            for name, amount in parts:
                if name:
                    line[index[name]] += amount
    return matrix


def prior(spec: RateSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the starting mean and the covariance of theta."""
    kinds = np.array([rate.kind for rate in spec.rates])
    mean = np.log([_UNIT[rate.kind] * rate.start for rate in spec.rates])
    covariance = np.diag([rate.sd**2 for rate in spec.rates])
    covariance += spec.level_sd**2
    for kind, sd in (("memory", _MEMORY_SD), ("overhead", _OVERHEAD_SD)):
        member = (kinds == kind).astype(float)
        covariance += sd**2 * np.outer(member, member)
    return mean, covariance


def lowest(spec: RateSpec, board: Board) -> np.ndarray:
    """Return the smallest theta that the board's datasheet allows, -inf where it says nothing."""
    bounds = [board.fastest.get(rate.name) for rate in spec.rates]
    return np.array([-np.inf if b is None else np.log(1e3 / b) for b in bounds])


def solve(
    matrix: np.ndarray,
    measured_ms: np.ndarray,
    mean: np.ndarray,
    precision: np.ndarray,
    *,
    noise: float = 0.07,
    start: np.ndarray | None = None,
    iterations: int = 40,
    loss: Loss = LOSS,
    lowest: np.ndarray | None = None,
) -> np.ndarray:
    """Minimise sum loss(log error)/noise^2 + (theta-mean)' precision (theta-mean) over theta >= lowest."""
    bound = np.full(len(mean), -np.inf) if lowest is None else lowest
    theta = np.maximum(mean if start is None else start, bound)
    target = np.log(measured_ms)
    damping = 1e-2

    def objective(t: np.ndarray) -> float:
        off = loss.of(np.log(matrix @ np.exp(t)) - target)
        return float(off.sum() / noise**2 + (t - mean) @ precision @ (t - mean))

    value = objective(theta)
    for _ in range(iterations):
        beta = np.exp(theta)
        predicted = matrix @ beta
        error = np.log(predicted) - target
        jacobian = matrix * beta / predicted[:, None]
        weight = loss.weight(error)
        hessian = (jacobian * weight[:, None]).T @ jacobian / noise**2 + precision
        slope = (jacobian * weight[:, None]).T @ error / noise**2 + precision @ (theta - mean)
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -slope).clip(-1.0, 1.0)
        trial = np.maximum(theta + step, bound)
        attempt = objective(trial)
        if attempt <= value:
            gain, theta, value = value - attempt, trial, attempt
            damping = max(damping / 3, 1e-6)
            if gain < 1e-6 * value:
                break
        else:
            damping *= 4
            if damping > 1e5:
                break
    return theta


@dataclass
class Population:
    """Fitted theta of every board, and the prior mean of every group."""

    theta: list[np.ndarray]
    mean: dict[str, np.ndarray]


def fit_population(
    spec: RateSpec,
    boards: Sequence[Board],
    *,
    rounds: int = 8,
    noise: float = 0.07,
    without: frozenset[str] = frozenset(),
    loss: Loss = LOSS,
    designs: Sequence[np.ndarray] | None = None,
) -> Population:
    """Fit all boards with a common prior a group, learned from them, families `without` left out.

    `designs` are the boards' `design` matrices, where a caller that fits often has them.
    """
    data = []
    for board, matrix in zip(boards, designs or [design(spec, b.samples) for b in boards], strict=True):
        kept = [i for i, s in enumerate(board.samples) if s.family not in without]
        measured = np.array([board.samples[i].latency_ms for i in kept])
        data.append((matrix[kept], measured, lowest(spec, board)))
    start, covariance = prior(spec)
    precision = np.linalg.inv(covariance)
    own = 1.0 / np.array([rate.sd**2 for rate in spec.rates])
    groups = [board.group for board in boards]
    mean = {g: start.copy() for g in groups}
    theta: list[np.ndarray] = [mean[g] for g in groups]
    for _ in range(rounds):
        theta = [
            solve(x, y, mean[g], precision, noise=noise, start=t, iterations=12, lowest=low, loss=loss)
            for (x, y, low), g, t in zip(data, groups, theta, strict=True)
        ]
        for group in mean:
            members = np.array([t for t, g in zip(theta, groups, strict=True) if g == group]) - start
            level = members @ own / own.sum()  # each board's own speed says nothing about the shape
            shape = (members - level[:, None]).mean(axis=0)
            mean[group] = start + shape * len(members) / (len(members) + 0.9) + level.mean()
    return Population(theta, mean)


def leave_family_out(
    spec: RateSpec,
    boards: Sequence[Board],
    *,
    rounds: int = 8,
    noise: float = 0.07,
    loss: Loss = LOSS,
) -> list[HeldOut]:
    """Return each board's predictions for network families held out on every board at once.

    Every fit begins from nothing: one that began at the fit to all families would know the one it predicts.
    """
    designs = [design(spec, board.samples) for board in boards]
    predicted = [np.zeros(len(board.samples)) for board in boards]
    for family in sorted({s.family for board in boards for s in board.samples}):
        fitted = fit_population(
            spec,
            boards,
            rounds=rounds,
            noise=noise,
            without=frozenset([family]),
            loss=loss,
            designs=designs,
        )
        for board, matrix, theta, out in zip(boards, designs, fitted.theta, predicted, strict=True):
            held = [i for i, s in enumerate(board.samples) if s.family == family]
            out[held] = matrix[held] @ np.exp(theta)
    return [
        HeldOut(tuple(s.name for s in b.samples), p, np.array([s.latency_ms for s in b.samples]))
        for b, p in zip(boards, predicted, strict=True)
    ]
