"""From measured shapes and times to a "table" entry of a profile: the base's rates, and which rows stay.

The rates are a non-negative least-squares fit on relative error, re-weighted against outliers. Rows are
thinned to a space-filling subset, so that a profile stays a small file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtp_edge.cost.table import FLOOR_US, MAX_CORRECTION, TERMS, TIME, Features, place

NOISE, GRAIN_US, AMPLITUDE = 0.06, 1.0, 0.3
SMOOTHED_NOISE = 0.02  # of a row once its neighbours have been averaged in
MAX_ROWS = 320


@dataclass(frozen=True)
class Shape:
    """How one kernel family's table is laid out: its columns, the base's terms, the coordinates' weights
    (the inverse of a length scale in octaves)."""

    columns: tuple[str, ...]
    terms: tuple[str, ...]
    coordinates: Mapping[str, float]
    channel_step: tuple[int, int] = (1, 1)


_CONV = (
    *("cin", "cout", "groups", "kh", "kw", "stride", "in_h", "in_w", "out_h", "out_w"),
    *("extra_bytes", "network_bytes"),
)
BLOCKED = Shape(
    _CONV,
    (
        "one",
        "tile_sets_of_1",
        "tile_sets_of_2",
        "tile_sets_of_3",
        "tile_sets_of_4",
        "outputs",
        "inputs",
        "weights",
        "cold_weights",
        "line_starts",
        "added",
    ),
    {"cin": 0.5, "cout": 0.5, "pixels": 0.5, "out_w": 0.25, "kernel": 0.4, "stride": 0.8},
    (16, 16),
)
DEPTHWISE = Shape(
    _CONV,
    ("one", "macs", "tiled_macs", "outputs", "inputs", "lines", "channels"),
    {"cout": 0.5, "pixels": 0.5, "out_w": 0.25, "kernel": 0.5, "stride": 0.8},
    (16, 16),
)
PLAIN = Shape(
    _CONV,
    ("one", "macs", "copied", "outputs", "weights", "cold_weights", "groups", "group_lines", "added"),
    {"cin_of_group": 0.5, "cout_of_group": 0.5, "pixels": 0.5, "groups": 0.35, "kernel": 0.4, "stride": 0.8},
)
LINEAR = Shape(
    ("rows", "cin", "cout", "batch", "network_bytes"),
    ("one", "product", "matrix", "cold_matrix", "rows_in", "rows_out", "channels"),
    {"rows": 0.5, "cin": 0.5, "cout": 0.5},
)
MATMUL = Shape(
    ("rows", "cin", "cout", "batch"),
    ("one", "product", "matrix", "rows_in", "rows_out", "batches"),
    {"rows_of_batch": 0.5, "cin": 0.5, "cout": 0.5, "batch": 0.5},
)
BYTES = Shape(
    ("last", "rank", "in_bytes", "out_bytes"),
    ("one", "read", "written", "far_read", "far_written", "vectors"),
    {"last": 0.35, "rank": 3.0, "in_bytes": 0.5, "out_bytes": 0.5},
)


@dataclass(frozen=True)
class Prior:
    """What is believed of a rate before the rows are seen: `mean` microseconds a unit, give or take `sd`."""

    mean: float
    sd: float


def fit_table(
    features: Features,
    us: np.ndarray,
    shape: Shape,
    source: str,
    seed: int = 0,
    priors: Mapping[str, Prior] | None = None,
) -> dict[str, Any]:
    """Return a profile's kernel entry for measured `us` `[n]` at `features` (arrays `[n]`).

    With `priors` of its terms a family may have few rows: what they do not show is as was believed.
    The entry passes through JSON unchanged: `TableKernel.from_json` reads it back.
    """
    us_per = fit_rates(features, us, shape.terms, priors)
    points = place(features, shape.coordinates)
    keep = thin(points, MAX_ROWS, seed)
    smoothed = smooth(features, us, us_per, points, keep)
    rows = np.stack(
        [*(np.asarray(features[c], dtype=np.float64)[keep] for c in shape.columns), smoothed], axis=1
    )
    return {
        "form": "table",
        "columns": [*shape.columns, TIME],
        "rows": [[_short(v) for v in row] for row in rows],
        "base": {
            "us_per": {name: float(f"{rate:.6g}") for name, rate in us_per.items()},
            "coordinates": dict(shape.coordinates),
            "amplitude": AMPLITUDE,
            "noise": SMOOTHED_NOISE,
            "grain_us": 0.1 * GRAIN_US,
        },
        "channel_step": {"in_channels": shape.channel_step[0], "out_channels": shape.channel_step[1]},
        "source": source,
    }


def fit_rates(
    features: Features, us: np.ndarray, terms: Sequence[str], priors: Mapping[str, Prior] | None = None
) -> dict[str, float]:
    """Return non-negative microseconds per unit of each term (terms that do not help are left out)."""
    return fit_columns({name: TERMS[name](features) for name in terms}, us, priors)


def fit_columns(
    columns: Mapping[str, np.ndarray], us: np.ndarray, priors: Mapping[str, Prior] | None = None
) -> dict[str, float]:
    """Return non-negative rates with which the columns add up to `us`, by name, without those that are 0."""
    matrix = np.stack(list(columns.values()), axis=1)
    believed = None if priors is None else [priors[name] for name in columns]
    scale = matrix.max(axis=0) if believed is None else np.array([1.0 / one.sd for one in believed])
    used = scale > 0
    matrix, scale = matrix[:, used] / scale[used], scale[used]
    prior = np.zeros((0, matrix.shape[1])) if believed is None else np.eye(matrix.shape[1])
    means = np.array([one.mean / one.sd for one in believed or ()])
    tolerance = np.hypot(0.1 * us, GRAIN_US)  # what counts as one unit of error
    weight = 1.0 / tolerance
    rates = np.zeros(matrix.shape[1])
    for _ in range(4):
        rates = _non_negative(
            np.vstack([matrix * weight[:, None], prior]), np.concatenate([us * weight, means])
        )
        error = (matrix @ rates - us) / tolerance
        weight = 1.0 / (tolerance * np.sqrt(1.0 + (error / 2.0) ** 2))  # Cauchy: outliers fade
    names = [name for name, u in zip(columns, used, strict=True) if u]
    found = {n: float(r / s) for n, r, s in zip(names, rates, scale, strict=True) if r > 0}
    return found or {"one": float(np.median(us))}


def smooth(
    features: Features, us: np.ndarray, us_per: Mapping[str, float], points: np.ndarray, keep: np.ndarray
) -> np.ndarray:
    """Return the times of the rows `keep`, each averaged with all measurements near it (sparse Gaussian
    process regression with the kept rows as inducing points): repeats and noise cancel."""
    base = np.maximum(sum(rate * TERMS[name](features) for name, rate in us_per.items()), FLOOR_US)
    logarithm = np.clip(np.log(np.maximum(us, FLOOR_US) / base), -MAX_CORRECTION, MAX_CORRECTION)
    linear = np.clip(us / base - 1.0, -1.0, MAX_CORRECTION)
    grain = 1.0 / (1.0 + (base / (5.0 * GRAIN_US)) ** 2)  # of a time that is mostly timer grain, the
    residual = grain * linear + (1.0 - grain) * logarithm  # mean logarithm would be too low
    weight = 1.0 / (NOISE**2 + (GRAIN_US / base) ** 2)  # by the base: the measured time would favour luck
    mean = float(np.average(residual, weights=weight))
    cross = AMPLITUDE**2 * np.exp(-0.5 * _distance(points[keep], points))
    inner = cross[:, keep]
    system = inner + (cross * weight) @ cross.T + 1e-8 * np.eye(len(keep))
    posterior = mean + inner @ np.linalg.solve(system, (cross * weight) @ (residual - mean))
    return base[keep] * np.exp(posterior)


def _distance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    square = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)
    return np.maximum(square - 2.0 * left @ right.T, 0.0)


def thin(points: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Return the indices of at most `count` points, each chosen farthest from those before it."""
    if len(points) <= count:
        return np.arange(len(points))
    chosen = [int(np.random.default_rng(seed).integers(len(points)))]
    distance = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(sorted(chosen))


def _non_negative(matrix: np.ndarray, target: np.ndarray, sweeps: int = 500) -> np.ndarray:
    """Non-negative least squares by cyclic coordinate descent on the normal equations.

    Not `scipy.optimize.nnls`: a machine is measured wherever dtp_edge runs, and no more of scipy is needed.
    """
    gram, projected = matrix.T @ matrix, matrix.T @ target
    x = np.zeros(len(gram))
    for _ in range(sweeps):
        before = x.copy()
        for k in range(len(x)):
            if gram[k, k] > 0:
                x[k] = max(0.0, x[k] + (projected[k] - gram[k] @ x) / gram[k, k])
        if np.abs(x - before).max() <= 1e-9 * max(np.abs(x).max(), 1e-30):
            break
    return x


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(f"{value:.5g}")
