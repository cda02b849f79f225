"""Time ONNX files in ONNX Runtime, interleaved, so that their ratio survives a noisy machine.

Every round times each file once, one after the other: a slow minute hits all of them alike. A sample is
the mean of a short burst of calls after two untimed ones (warm caches, the state of a loop over frames),
and a file's latency is the median of its samples. `latency_ms` includes the call overhead of the runtime.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from dtp_edge.errors import InputError
from dtp_edge.files.sessions import NUMPY_TYPES, open_session

BURST_SECONDS = 1e-3  # a sample is at least this long, so that the clock's own cost and grain vanish
WARM = 2  # calls before the timed ones: the second still misses what other networks evicted
Runner = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """`latency_ms` is the median of `repeats` samples; `spread` their interquartile range over the median;
    `best_ms` the smallest sample. `samples_ms[k]` was taken in round k, with those of the other files."""

    path: str
    latency_ms: float
    spread: float
    repeats: int
    best_ms: float
    samples_ms: tuple[float, ...] = ()


def make_session(
    model: str | Path | bytes, threads: int = 1, *, profile_prefix: str | None = None
) -> ort.InferenceSession:
    """Return an `onnxruntime.InferenceSession` as every measurement here uses it: CPU, sequential,
    all graph optimisations, `threads` threads.

    **Raises:** `InputError` if the file is missing or ONNX Runtime refuses it.
    """
    if threads < 1:
        raise InputError(f"{threads} is not a number of threads", where="threads", hint="Give 1 or more.")
    if threads > (here := processors()):
        raise InputError(
            f"{threads} threads are more than this machine's {here} processors",
            where="threads",
            hint=f"Give 1 to {here}; to time the device itself, take the kit there (`dtp-edge profile kit`).",
        )
    # else one network's waiting threads would take the cores of the next
    entries = {"session.force_spinning_stop": "1"} if threads > 1 else {}
    return open_session(
        Path(model) if isinstance(model, str) else model,
        threads=threads,
        entries=entries,
        profile_prefix=profile_prefix,
        hint="Give the path of an ONNX file, or update onnxruntime if the file is newer than it.",
    )


def processors() -> int:
    """Return how many processors this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(usable(0)) if usable else os.cpu_count() or 1


def random_feed(session: ort.InferenceSession, seed: int = 0) -> dict[str, np.ndarray]:
    """Return one random input per input of the session; symbolic dimensions become 1.

    **Raises:** `InputError` for an input that is not a tensor of a plain number type.
    """
    rng = np.random.default_rng(seed)
    feed: dict[str, np.ndarray] = {}
    for entry in session.get_inputs():
        dtype = NUMPY_TYPES.get(entry.type)
        if dtype is None:
            raise InputError(
                f"input of type {entry.type} cannot be timed",
                where=entry.name,
                hint=f"Give the network an input of one of {', '.join(NUMPY_TYPES)}.",
            )
        shape = [d if isinstance(d, int) and d > 0 else 1 for d in entry.shape]
        if np.issubdtype(dtype, np.floating):
            feed[entry.name] = rng.standard_normal(shape).astype(dtype)
        else:  # token ids, masks: small values are valid everywhere
            feed[entry.name] = rng.integers(0, 2, shape).astype(dtype)
    return feed


def time_interleaved(
    runners: Sequence[Runner],
    *,
    repeats: int | None = None,
    seconds: float = 5.0,
    burst_seconds: float = BURST_SECONDS,
    warmup: int = 3,
) -> np.ndarray:
    """Return samples in milliseconds, float64 `[len(runners), repeats]`.

    `repeats=None` takes as many rounds as fit in `seconds`, between 7 and 200.
    """
    bursts = []
    for run in runners:
        for _ in range(warmup):
            run()
        bursts.append(max(1, int(np.ceil(burst_seconds / max(_seconds(run, 1), 1e-7)))))
    if repeats is None:
        one_round = sum(_sample(r, n) * (n + WARM) for r, n in zip(runners, bursts, strict=True))
        repeats = int(np.clip(seconds / max(one_round, 1e-6), 7, 200))
    samples = np.empty((len(runners), repeats))
    for k in range(repeats):
        order = range(len(runners)) if k % 2 == 0 else reversed(range(len(runners)))
        for i in order:
            samples[i, k] = 1e3 * _sample(runners[i], bursts[i])
    return samples


def time_onnx(
    paths: Sequence[str | Path],
    threads: int = 1,
    repeats: int | None = None,
    *,
    seconds: float = 5.0,
    feeds: Sequence[Mapping[str, np.ndarray]] | None = None,
) -> list[Timing]:
    """Time ONNX files against each other in this process, interleaved; one `Timing` a file, in order.

    **Arguments:**

    - `paths`: ONNX files. The same file may be given twice.
    - `threads`: intra-op threads of ONNX Runtime.
    - `repeats`: samples a file; by default as many as fit in about `seconds` (7 to 200).
    - `feeds`: inputs for each file; random ones by default (symbolic dimensions are set to 1).

    **Raises:** `InputError` for a file that is missing or that the runtime refuses.
    """
    sessions = [make_session(p, threads) for p in paths]
    feeds = list(feeds) if feeds is not None else [random_feed(s) for s in sessions]
    runners = [bind(s, f) for s, f in zip(sessions, feeds, strict=True)]
    samples = time_interleaved(runners, repeats=repeats, seconds=seconds)
    return [
        Timing(
            os.fspath(p),
            float(np.median(row)),
            relative_spread(row),
            len(row),
            float(row.min()),
            tuple(row.tolist()),
        )
        for p, row in zip(paths, samples, strict=True)
    ]


def bind(session: ort.InferenceSession, feed: Mapping[str, np.ndarray]) -> Runner:
    """Return a call without arguments that runs `session` once on `feed`."""
    inputs = dict(feed)
    return lambda: session.run(None, inputs)


def relative_spread(samples: np.ndarray) -> float:
    """Return the interquartile range over the median."""
    low, middle, high = np.percentile(samples, [25, 50, 75])
    return float((high - low) / middle) if middle > 0 else 0.0


def _seconds(run: Runner, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return time.perf_counter() - start


def _sample(run: Runner, count: int) -> float:
    for _ in range(WARM):  # untimed: another file's run has just emptied the caches
        run()
    return _seconds(run, count) / count
