"""Batches of any shape, re-cut to the batch size of a file that ONNX Runtime has open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from dtp_edge.errors import InputError
from dtp_edge.files.sessions import HINT, NUMPY_TYPES

Batch = dict[str, np.ndarray]
DYNAMIC_BATCH = 8  # samples a run where the file leaves the batch open


def batch_size(session: ort.InferenceSession) -> int:
    """Return the file's own batch size, or `DYNAMIC_BATCH` where it is open."""
    size = session.get_inputs()[0].shape[0] if session.get_inputs()[0].shape else 1
    return size if isinstance(size, int) and size > 0 else DYNAMIC_BATCH


def as_batches(session: ort.InferenceSession, batches: Iterable[Any], max_samples: int) -> list[Batch]:
    """Re-cut batches to the file's batch size, at most `max_samples` samples; a short rest is left out.

    An input that is one number is the same for all samples: that of the first batch.
    """
    parts: list[Batch] = []
    held = 0
    for batch in batches:
        parts.append(_named(session, batch))
        held += samples_of(parts[-1])
        if held >= max_samples:
            break
    if not parts:
        return []
    numbers = {name: value for name, value in parts[0].items() if value.ndim == 0}
    names = [name for name in parts[0] if name not in numbers]
    whole = {name: np.concatenate([p[name] for p in parts])[:max_samples] for name in names}
    size = min(batch_size(session), min(held, max_samples)) if _open_batch(session) else batch_size(session)
    count = len(whole[names[0]]) // size
    return [
        numbers | {n: np.ascontiguousarray(whole[n][i * size : (i + 1) * size]) for n in names}
        for i in range(count)
    ]


def samples_of(batch: Batch) -> int:
    """Return how many samples a batch holds: the length of its first input that is no single number."""
    return next((len(value) for value in batch.values() if value.ndim), 1)


def run(session: ort.InferenceSession, batch: Batch) -> list[np.ndarray]:
    """Run one batch; outputs in the file's order."""
    return [np.asarray(output) for output in session.run(None, batch)]


def run_fixed_batch(session: ort.InferenceSession, inputs: Any, samples: int) -> list[np.ndarray]:
    """Run the first `samples` samples of a batch, filling up the last run; outputs in order."""
    whole = _named(session, inputs)
    size = batch_size(session)
    runs: list[list[np.ndarray]] = []
    for start in range(0, samples, size):
        part = {name: value[start : min(start + size, samples)] for name, value in whole.items()}
        short = size - len(next(iter(part.values())))
        if short and not _open_batch(session):
            part = {n: np.concatenate([v, np.repeat(v[-1:], short, axis=0)]) for n, v in part.items()}
        runs.append(run(session, {n: np.ascontiguousarray(v) for n, v in part.items()}))
    return [np.concatenate(column)[:samples] for column in zip(*runs, strict=True)]


def _open_batch(session: ort.InferenceSession) -> bool:
    shape = session.get_inputs()[0].shape
    return bool(shape) and not isinstance(shape[0], int)


def _named(session: ort.InferenceSession, batch: Any) -> Batch:
    """Return a batch as arrays by input name. A lone array, or a tuple in input order, is named."""
    inputs = session.get_inputs()
    if not isinstance(batch, Mapping):
        values = list(batch) if isinstance(batch, (tuple, list)) else [batch]
        batch = dict(zip([i.name for i in inputs], values, strict=False))
        if len(values) < len(inputs):
            raise InputError(
                f"a batch has {len(values)} inputs, the file {len(inputs)}", where="calibration", hint=HINT
            )
    named: Batch = {}
    for item in inputs:
        if item.name not in batch:
            raise InputError(
                f"a batch lacks input {item.name!r}", where="calibration", hint=f"it has {list(batch)}"
            )
        array = np.asarray(batch[item.name]).astype(NUMPY_TYPES.get(item.type, np.float32), copy=False)
        wanted = item.shape
        if array.ndim != len(wanted) or any(
            isinstance(w, int) and w != a for w, a in zip(wanted[1:], array.shape[1:], strict=True)
        ):
            raise InputError(
                f"input {item.name!r} is {wanted}, the batch {list(array.shape)}",
                where="calibration",
                hint=HINT,
            )
        named[item.name] = array
    return named
