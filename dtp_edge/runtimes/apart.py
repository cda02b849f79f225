"""How far outputs are from what they should be, and how far they may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FP32_LIMIT = 1e-4  # of max(1, largest absolute reference output)
INT8_LIMIT = 1e-2  # of the reference output's range


def difference(
    outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray], *, quantized: bool
) -> tuple[float, float, float]:
    """Return the largest absolute difference, the largest over its range, and the largest over its limit."""
    rows = []
    for got, want in zip(outputs, reference, strict=True):
        want = want.astype(np.float64).reshape(-1)
        apart = float(np.abs(got.astype(np.float64).reshape(-1) - want).max()) if want.size else 0.0
        largest = float(np.abs(want).max(initial=0.0))
        extent = (float(want.max() - want.min()) if want.size else 0.0) or max(1.0, largest)
        limit = INT8_LIMIT * extent if quantized else FP32_LIMIT * max(1.0, largest)
        rows.append((apart, apart / extent, apart / limit))
    return tuple(float(column) for column in np.array(rows).max(axis=0))  # pyright: ignore[reportReturnType]  # max keeps NaN


def relative_rms(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Return |outputs - reference| / |reference|, Euclidean over all of them."""
    error = norm = 0.0
    for got, want in zip(outputs, reference, strict=True):
        want = want.astype(np.float64).reshape(-1)
        error += float(np.square(got.astype(np.float64).reshape(-1) - want).sum())
        norm += float(np.square(want).sum())
    return float(np.sqrt(error / norm)) if norm > 0 else float(np.sqrt(error))


def same_top1(outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float | None:
    """Return the share of samples whose largest output is the same; None where the first is no scores."""
    got, want = outputs[0], reference[0]
    scores = want.reshape(len(want), -1)
    if want.ndim < 2 or scores.shape[1] < 2 or got.size != want.size or scores.shape[1] > 10_000:
        return None
    return float((got.reshape(scores.shape).argmax(axis=1) == scores.argmax(axis=1)).mean())
