"""The "table" kernel form: measured rows, interpolated in logarithmic shape space over a small base.

A row is one measured shape and its microseconds. Between rows a kernel's time is

    base(shape) * exp(correction(shape)),      base = sum_t us_per[t] * term_t(shape),  us_per >= 0

where the terms count what the kernel does (multiply-accumulates by register tile, bytes, rows, one launch)
and the correction interpolates log(measured / base) by a Gaussian process with a squared-exponential
kernel over weighted log2 coordinates: the rows decide near them, the base far from them. A profile's
JSON names the terms and coordinates, so that a table says itself how it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dtp_edge.errors import InputError
from dtp_edge.profiles.profile import TableModel

HINT = "docs/own-board.md shows a profile; `dtp-edge devices NAME --json` prints one with tables."

Features = Mapping[str, np.ndarray]
TIME = "us"  # the last column of every table: microseconds
FLOOR_US = 0.1  # no launch is shorter
MAX_CORRECTION = 1.5
TILE = 6  # output pixels that a blocked convolution kernel keeps in registers
BLOCK = 16  # channels in a block
NEAR = 250_000.0  # values that stay in a core's own cache (1 MB)
COLD_BYTES = (6e6, 20e6)  # weights of a network that all, or none, stay in the last cache


def _pixels(f: Features) -> np.ndarray:
    return f["out_h"] * f["out_w"]


def _depth(f: Features) -> np.ndarray:
    """Multiply-accumulates that make one output value."""
    return f["cin"] * f["kh"] * f["kw"] / f["groups"]


def _sets(f: Features, kind: int) -> np.ndarray:
    """A blocked kernel computes 4 output blocks at a time, then the 1, 2 or 3 left: return how many
    sets of `kind` blocks there are, linear between whole blocks."""
    blocks = f["cout"] / BLOCK
    left = np.mod(blocks, 4.0)
    if kind == 4:
        return np.floor(blocks / 4.0) + np.maximum(left - 3.0, 0.0)
    return np.maximum(1.0 - np.abs(left - kind), 0.0)


def _tiled(f: Features) -> np.ndarray:
    """Output pixels in whole register tiles: a line at a time, but a 1x1 kernel of stride 1 takes all
    lines as one."""
    flat = (f["kh"] * f["kw"] == 1) & (f["stride"] == 1)
    lines = f["out_h"] * np.ceil(f["out_w"] / TILE) * TILE
    return np.where(flat, np.ceil(_pixels(f) / TILE) * TILE, lines)


def _cold(f: Features) -> np.ndarray:
    """Share of a network's weights that come from memory, not from the last cache, in a loop of calls."""
    return np.clip((f["network_bytes"] - COLD_BYTES[0]) / (COLD_BYTES[1] - COLD_BYTES[0]), 0.0, 1.0)


def _copied(f: Features) -> np.ndarray:
    """Values that im2col writes: none for a 1x1 kernel of stride 1."""
    needed = (f["kh"] * f["kw"] > 1) | (f["stride"] > 1)
    return _depth(f) * f["groups"] * _pixels(f) * needed


TERMS: dict[str, Callable[[Features], np.ndarray]] = {
    "one": lambda f: np.ones_like(next(iter(f.values()))),
    "macs": lambda f: _depth(f) * f["cout"] * _pixels(f),
    "tile_sets_of_4": lambda f: _depth(f) * _tiled(f) * _sets(f, 4),
    "tile_sets_of_3": lambda f: _depth(f) * _tiled(f) * _sets(f, 3),
    "tile_sets_of_2": lambda f: _depth(f) * _tiled(f) * _sets(f, 2),
    "tile_sets_of_1": lambda f: _depth(f) * _tiled(f) * _sets(f, 1),
    "outputs": lambda f: f["cout"] * _pixels(f),
    "inputs": lambda f: f["cin"] * f["in_h"] * f["in_w"],
    "weights": lambda f: _depth(f) * f["cout"],
    "line_starts": lambda f: f["out_h"] * f["cout"] * f["kh"] * f["cin"] / f["groups"],
    "lines": lambda f: f["out_h"] * f["cout"],
    "group_lines": lambda f: f["out_h"] * f["groups"],
    "groups": lambda f: f["groups"],
    "channels": lambda f: f["cout"],
    "copied": _copied,
    "added": lambda f: f["extra_bytes"] / 4.0,
    "tiled_macs": lambda f: _depth(f) * f["cout"] * _tiled(f),
    "product": lambda f: f["rows"] * f["cin"] * f["cout"],
    "matrix": lambda f: f["batch"] * f["cin"] * f["cout"],
    "rows_in": lambda f: f["rows"] * f["cin"],
    "rows_out": lambda f: f["rows"] * f["cout"],
    "batches": lambda f: f["batch"],
    "far_weights": lambda f: np.maximum(_depth(f) * f["cout"] - NEAR, 0.0),
    "far_matrix": lambda f: np.maximum(f["batch"] * f["cin"] * f["cout"] - NEAR, 0.0),
    "cold_weights": lambda f: _depth(f) * f["cout"] * _cold(f),
    "cold_matrix": lambda f: f["batch"] * f["cin"] * f["cout"] * _cold(f),
    "far_read": lambda f: np.maximum(f["in_bytes"] / 4.0 - NEAR, 0.0),
    "far_written": lambda f: np.maximum(f["out_bytes"] / 4.0 - NEAR, 0.0),
    "vectors": lambda f: f["out_bytes"] / (4.0 * f["last"]),
    "read": lambda f: f["in_bytes"] / 4.0,
    "written": lambda f: f["out_bytes"] / 4.0,
}
_DERIVED: dict[str, Callable[[Features], np.ndarray]] = {
    "pixels": _pixels,
    "kernel": lambda f: f["kh"] * f["kw"],
    "cin_of_group": lambda f: f["cin"] / f["groups"],
    "cout_of_group": lambda f: f["cout"] / f["groups"],
    "rows_of_batch": lambda f: f["rows"] / f["batch"],
}


class TableKernel:
    """One kernel family's table, ready to be asked. `uses` names the features that matter."""

    def __init__(
        self,
        columns: Sequence[str],
        rows: np.ndarray,
        us_per: Mapping[str, float],
        coordinates: Mapping[str, float],
        *,
        amplitude: float,
        noise: float,
        grain_us: float,
    ) -> None:
        self.uses = tuple(columns[:-1])
        self.us_per, self.coordinates = dict(us_per), dict(coordinates)
        features = dict(zip(self.uses, np.asarray(rows, dtype=np.float64).T[:-1], strict=True))
        us = np.maximum(np.asarray(rows, dtype=np.float64)[:, -1], FLOOR_US)
        self._points = self._place(features)
        residual = np.clip(np.log(us / self.base_us(features)), -MAX_CORRECTION, MAX_CORRECTION)
        variance = noise**2 + (grain_us / us) ** 2
        self._mean = float(np.average(residual, weights=1.0 / variance))
        self._amplitude = amplitude**2
        gram = self._kernel(self._points) + np.diag(variance)
        self._weights = np.linalg.solve(gram, residual - self._mean)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], where: str) -> TableKernel:
        """Read a profile's table entry. Raises `InputError` with the path of the bad field."""
        base, columns = entry["base"], list(entry["columns"])
        if columns[-1] != TIME:
            raise InputError(
                f"the last column is {columns[-1]!r}; it must be {TIME!r}",
                where=f"{where}.columns",
                hint=HINT,
            )
        rows = np.asarray(entry["rows"], dtype=np.float64)
        if not (rows[:, -1] > 0).all() or (rows[:, :-1] < 0).any():
            raise InputError(
                "a time is not positive, or a shape is negative", where=f"{where}.rows", hint=HINT
            )
        us_per = _numbers(base, "us_per", where, TERMS)
        coordinates = _numbers(base, "coordinates", where, {**dict.fromkeys(columns[:-1]), **_DERIVED})
        settings = {}
        for name in ("amplitude", "noise", "grain_us"):
            value = base.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise InputError(
                    f"{value!r} is not a positive number", where=f"{where}.base.{name}", hint=HINT
                )
            settings[name] = float(value)
        try:
            with np.errstate(all="ignore"):
                made = cls(columns, rows, us_per, coordinates, **settings)
        except KeyError as error:
            raise InputError(f"column {error} is missing", where=f"{where}.columns", hint=HINT) from error
        except np.linalg.LinAlgError as error:
            raise InputError(f"cannot be interpolated: {error}", where=f"{where}.rows", hint=HINT) from error
        if not np.isfinite(made._weights).all() or not np.isfinite(made._mean):
            raise InputError("cannot be interpolated: not finite", where=f"{where}.rows", hint=HINT)
        return made

    def latency_ms(self, features: Features) -> np.ndarray:
        """Return milliseconds, float64 `[n]`, for feature arrays `[n]`."""
        return 1e-3 * self.latency_us(features)

    def latency_us(self, features: Features) -> np.ndarray:
        near = self._kernel(self._place(features))
        correction = np.clip(self._mean + near @ self._weights, -MAX_CORRECTION, MAX_CORRECTION)
        return np.maximum(self.base_us(features) * np.exp(correction), FLOOR_US)

    def base_us(self, features: Features) -> np.ndarray:
        """Return the additive base, microseconds."""
        total = sum(rate * TERMS[name](features) for name, rate in self.us_per.items())
        return np.maximum(np.asarray(total, dtype=np.float64), FLOOR_US)

    def apart(self, features: Features) -> tuple[np.ndarray, list[str]]:
        """Return how far each shape lies from the nearest measured one, in length scales, and the name of
        the coordinate in which most."""
        points, names = self._place(features), list(self.coordinates)
        square = ((points[:, None, :] - self._points[None]) ** 2).sum(axis=2)
        nearest = square.argmin(axis=1)
        most = np.abs(points - self._points[nearest]).argmax(axis=1) if names else np.zeros(len(points), int)
        return np.sqrt(square.min(axis=1)), [names[i] for i in most] if names else [""] * len(points)

    def _place(self, features: Features) -> np.ndarray:
        return place(features, self.coordinates)

    def _kernel(self, points: np.ndarray) -> np.ndarray:
        square = (points**2).sum(axis=1)[:, None] + (self._points**2).sum(axis=1)
        distance = np.maximum(square - 2.0 * points @ self._points.T, 0.0)
        return self._amplitude * np.exp(-0.5 * distance)


def table_of(known: dict[str, TableKernel], key: str, model: TableModel) -> TableKernel:
    """Return the table of a profile's kernel family, made ready once for all networks that share `known`."""
    if key not in known:
        known[key] = TableKernel.from_json(model.document, f"kernels.{key}")
    return known[key]


def place(features: Features, coordinates: Mapping[str, float]) -> np.ndarray:
    """Return points in interpolation space, `[n, n_coordinates]`: weight * log2(1 + feature)."""
    columns = np.array([_DERIVED[n](features) if n in _DERIVED else features[n] for n in coordinates])
    return np.log2(1.0 + columns).T * np.array(list(coordinates.values()))


def _numbers(base: Mapping[str, Any], name: str, where: str, known: Mapping[str, object]) -> dict[str, float]:
    values = base.get(name)
    if not isinstance(values, dict) or not values:
        raise InputError("an object of numbers is missing", where=f"{where}.base.{name}", hint=HINT)
    for key, value in values.items():
        bad = isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0
        if key not in known or bad:
            what = "unknown" if key not in known else f"{value!r} is not a number >= 0"
            raise InputError(what, where=f"{where}.base.{name}.{key}", hint=HINT)
    return {key: float(value) for key, value in values.items()}
