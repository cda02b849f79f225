"""Resampling of one dimension, in numpy: which pixels an output reads (`nearest`), or with which weights."""

from __future__ import annotations

import numpy as np


def coordinates(
    how: str, size: int, out: int, scale: float, roi: tuple[float, float] | None
) -> np.ndarray | None:
    """Where each output lies in the input, in float32 as ONNX Runtime; None for an unknown transformation."""
    x, factor = np.arange(out, dtype=np.float32), np.float32(scale)
    if how == "asymmetric":
        return x / factor
    if how == "half_pixel" or (how == "pytorch_half_pixel" and out > 1):
        return (x + 0.5) / factor - 0.5
    if how == "pytorch_half_pixel":
        return np.zeros(out)
    if how == "align_corners":
        return x * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
    if how == "tf_half_pixel_for_nn":
        return (x + 0.5) / factor
    if how == "half_pixel_symmetric":
        middle = size / 2 * (1 - out / (factor * size))
        return middle + (x + 0.5) / factor - 0.5
    if how == "tf_crop_and_resize" and roi is not None:
        begin, end = roi
        if out == 1:
            return np.full(1, 0.5 * (begin + end) * (size - 1))
        return begin * (size - 1) + x * (end - begin) * (size - 1) / (out - 1)
    return None


def nearest(places: np.ndarray, size: int, rounding: str) -> np.ndarray:
    """The pixel that each output copies."""
    rounded = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda p: np.ceil(p - 0.5),
        "round_prefer_ceil": lambda p: np.floor(p + 0.5),
    }[rounding](places)
    return np.clip(rounded, 0, size - 1).astype(np.int64)


def weights(
    mode: str, places: np.ndarray, size: int, scale: float, *, cubic: float, exclude: bool, antialias: bool
) -> np.ndarray:
    """The matrix [outputs, inputs] of linear or cubic interpolation; its rows sum to 1."""
    stretch = max(1.0, 1.0 / scale) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) * stretch
    matrix = np.zeros((len(places), size))
    for row, place in enumerate(places):
        first = int(np.floor(place - reach)) + 1
        near = np.arange(first, int(np.ceil(place + reach)) + (0 if stretch == 1 else 1))
        distance = np.abs(near - place) / stretch
        part = np.maximum(1 - distance, 0) if mode == "linear" else _cubic(distance, cubic)
        inside = (near >= 0) & (near < size)
        if exclude:
            part = np.where(inside, part, 0)
        part = part / part.sum() if part.sum() else part
        np.add.at(matrix[row], np.clip(near, 0, size - 1), part)
    return matrix


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, inner, np.where(d < 2, outer, 0.0))
