"""How well two ONNX files of one network agree, and how accurate one is, by running them in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.errors import InputError
from dtp_edge.files.sessions import open_session
from dtp_edge.onnx.session import Batch, as_batches, run, run_fixed_batch, samples_of


@dataclass(frozen=True)
class Agreement:
    """How far an int8 file is from the fp32 file on held-out batches.

    `relative_error` is |int8 - fp32| / |fp32| (Euclidean, over all outputs), `same_top1` the share of
    samples with the same largest output, or None where no output looks like class scores.
    """

    method: str
    relative_error: float
    same_top1: float | None
    samples: int


def compare_onnx(
    fp32_path: str | Path, int8_path: str | Path, batches: Iterable[Any], max_samples: int = 256
) -> Agreement:
    """Return how well two files of one network agree on the given batches (see `Agreement`)."""
    session = open_session(Path(fp32_path))
    samples = as_batches(session, batches, max_samples)
    if not samples:
        raise InputError(
            "there is no batch to compare on", where="batches", hint="Give one batch of inputs or more."
        )
    return measure_agreement("given", Path(int8_path), samples, [run(session, batch) for batch in samples])


def evaluate_onnx(
    path: str | Path, loader: Iterable[Any], *, limit: int | None = None, threads: int = 1
) -> float:
    """Return the top-1 accuracy in [0, 1] of a classifier's ONNX file over `(inputs, labels)` batches.

    Runs in ONNX Runtime at the file's own batch size. `limit` stops after that many samples.
    Raises InputError where the loader is empty or the first output is not `[batch, classes]`.
    """
    session = open_session(Path(path), threads=threads)
    right = total = 0
    for inputs, labels in loader:
        target = np.asarray(labels).reshape(-1)
        if limit is not None:
            target = target[: limit - total]
        scores = run_fixed_batch(session, inputs, len(target))[0]
        if scores.ndim != 2 or len(scores) != len(target):
            raise InputError(
                f"the first output has shape {scores.shape}, not [batch, classes]",
                where=str(path),
                hint="Accuracy is of classifiers; compare other networks by `compare_onnx`.",
            )
        right += int((scores.argmax(axis=1) == target).sum())
        total += len(target)
        if limit is not None and total >= limit:
            break
    if not total:
        raise InputError(
            "the loader gave no sample",
            where="loader",
            hint="Give (inputs, labels) batches, fresh each time.",
        )
    return right / total


def measure_agreement(
    method: str, path: Path, batches: list[Batch], expected: list[list[np.ndarray]]
) -> Agreement:
    """Compare a file's outputs with expected ones, batch by batch."""
    session = open_session(path)
    error = norm = 0.0
    same: list[np.ndarray] = []
    for batch, wanted in zip(batches, expected, strict=True):
        for got, want in zip(run(session, batch), wanted, strict=True):
            error += float(np.square(got.astype(np.float64) - want).sum())
            norm += float(np.square(want.astype(np.float64)).sum())
            if want.ndim == 2 and want.shape[1] > 1:
                same.append(got.argmax(axis=1) == want.argmax(axis=1))
    relative = float(np.sqrt(error / norm)) if norm > 0 else float(np.sqrt(error))
    top1 = float(np.concatenate(same).mean()) if same else None
    return Agreement(method, relative, top1, sum(map(samples_of, batches)))
