"""Per-kernel times inside a running network, from ONNX Runtime's own profiler, on a shared machine.

Several networks are visited in turns, so that a busy minute touches all of them; of each network the runs
between the 10th and the 40th percentile count: those that nothing else disturbed. Whole runs are chosen,
not runs of each kernel: the lowest times of single kernels would not add up to any call. ONNX Runtime
reports whole microseconds, rounded down, for every node of every run; the mean over the runs that count
plus half a microsecond undoes the rounding.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from dtp_edge.errors import InputError
from dtp_edge.measure.probe_builder import ACTIVATION_MARK
from dtp_edge.measure.timing import WARM, bind, make_session, random_feed

QUIET = (0.1, 0.4)  # quantiles
_SUFFIX = "_kernel_time"
_ROUNDING_US = 0.5
Shape = tuple[int, ...]


@dataclass(frozen=True)
class NodeTime:
    """One node of one network: `blocked` if it ran on channels in blocks; shapes as the runtime saw them
    (a blocked tensor has its channels rounded up). Weights that the runtime repacked are not listed."""

    op: str
    blocked: bool
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    us: float
    activation: str = ""  # fused into the node, if its network marks it (see `probes`)


@dataclass(frozen=True)
class NetworkTimes:
    """The nodes of one network in running order; `latency_us` is a call without the profiler,
    `spread` the interquartile range of its calls over their median (how busy the machine was)."""

    nodes: tuple[NodeTime, ...]
    latency_us: float
    spread: float


def measure_networks(
    models: Sequence[str | bytes],
    threads: int = 1,
    *,
    visits: int = 6,
    runs: int = 4,
    between: Callable[[], object] | None = None,
) -> list[NetworkTimes]:
    """Time every kernel of every model, in `visits` rounds of `runs` calls each.

    `between` is called before every visit of a model (a reference to watch the machine by).

    **Raises:** `InputError` if ONNX Runtime refuses a model or wrote no profile.
    """
    with tempfile.TemporaryDirectory() as folder:
        watched = [
            make_session(m, threads, profile_prefix=os.path.join(folder, f"n{i}"))
            for i, m in enumerate(models)
        ]
        feeds = [random_feed(s) for s in watched]
        profiled = [bind(s, f) for s, f in zip(watched, feeds, strict=True)]
        free = [bind(make_session(m, threads), f) for m, f in zip(models, feeds, strict=True)]
        calls: list[list[float]] = [[] for _ in models]
        for _ in range(visits):
            for k, (with_profiler, without) in enumerate(zip(profiled, free, strict=True)):
                if between is not None:
                    between()
                for _ in range(runs + WARM):  # the first ones are dropped below
                    with_profiler()
                for _ in range(WARM):
                    without()
                for _ in range(runs):
                    start = time.perf_counter()
                    without()
                    calls[k].append(1e6 * (time.perf_counter() - start))
        return [network_times(s, np.array(c), runs) for s, c in zip(watched, calls, strict=True)]


def quiet_mean(samples: np.ndarray) -> np.ndarray:
    """Return the mean between the 10th and the 40th percentile of the last axis: what a sample is when
    nothing else runs on the machine."""
    return np.sort(samples, axis=-1)[..., _quiet(samples.shape[-1])].mean(axis=-1)


def _quiet(count: int) -> slice:
    low = int(QUIET[0] * count)
    return slice(low, max(low + 1, round(QUIET[1] * count)))


def network_times(session: ort.InferenceSession, calls: np.ndarray, runs: int) -> NetworkTimes:
    """End the profiling of `session`, which ran `WARM` + `runs` times a visit; `calls` are the microseconds
    of calls without the profiler. Raises `InputError` if the runtime recorded no kernel."""
    events = _read(session.end_profiling())
    nodes: dict[tuple[str, str], list[dict]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            nodes.setdefault((event["args"]["node_index"], event["name"]), []).append(event)
    if not nodes:
        raise InputError(
            "ONNX Runtime's profiler recorded no kernel",
            where="profiling",
            hint="Another version of onnxruntime may record them: `pip install -U onnxruntime`.",
        )
    durations = np.array([[e["dur"] for e in found] for found in nodes.values()], dtype=np.float64)
    durations = durations[:, np.arange(durations.shape[1]) % (runs + WARM) >= WARM]
    undisturbed = np.argsort(durations.sum(axis=0))[_quiet(durations.shape[1])]
    durations = durations[:, undisturbed].mean(axis=1) + _ROUNDING_US
    low, middle, high = np.percentile(calls, [25, 50, 75])
    found = [
        _node(name, seen[0]["args"], float(us))
        for (_, name), seen, us in zip(nodes.keys(), nodes.values(), durations, strict=True)
    ]
    return NetworkTimes(tuple(found), float(quiet_mean(calls)), float((high - low) / middle))


def _node(name: str, args: dict, us: float) -> NodeTime:
    blocked = name.endswith("_nchwc" + _SUFFIX)
    return NodeTime(
        op=args["op_name"],
        blocked=blocked,
        inputs=_shapes(args.get("input_type_shape", ())),
        outputs=_shapes(args.get("output_type_shape", ())),
        us=us,
        activation=_activation(name) if blocked or args["op_name"].startswith("Fused") else "",
    )


def _activation(name: str) -> str:
    found = re.search(ACTIVATION_MARK + "([A-Za-z]+)", name)
    return found.group(1) if found else ""


def _shapes(entries: Sequence[dict]) -> tuple[Shape, ...]:
    return tuple(tuple(int(d) for d in next(iter(entry.values()))) for entry in entries if entry)


def _read(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as stream:
        events = json.load(stream)
    os.remove(path)
    return events
