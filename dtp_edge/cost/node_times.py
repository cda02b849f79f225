"""Per-kernel times inside a running network, from ONNX Runtime's own profiler.

ONNX Runtime reports whole microseconds, rounded down, for every node of every run. The interquartile
mean over many runs plus half a microsecond undoes the rounding and ignores interrupted runs.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass

import numpy as np

from dtp_edge.cost.timing import bind, make_session, random_feed
from dtp_edge.errors import InputError

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


def profile_nodes(model: str | bytes, threads: int = 1, repeats: int = 20, warmup: int = 3) -> list[NodeTime]:
    """Run `model` `warmup + repeats` times under the profiler; return its nodes in order of execution.

    **Raises:** `InputError` if ONNX Runtime refuses the model or wrote no profile.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = make_session(model, threads, profile_prefix=os.path.join(folder, "nodes"))
        run = bind(session, random_feed(session))
        for _ in range(warmup + repeats):
            run()
        with open(session.end_profiling(), encoding="utf-8") as stream:
            events = json.load(stream)
    nodes: dict[tuple[str, str], list[dict]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            nodes.setdefault((event["args"]["node_index"], event["name"]), []).append(event)
    if not nodes:
        raise InputError("ONNX Runtime's profiler recorded no kernel", where="profiling")
    return [_summary(name, found[warmup:] or found) for (_, name), found in nodes.items()]


def _summary(name: str, events: list[dict]) -> NodeTime:
    args = events[0]["args"]
    return NodeTime(
        op=args["op_name"],
        blocked=name.endswith("_nchwc" + _SUFFIX),
        inputs=_shapes(args.get("input_type_shape", ())),
        outputs=_shapes(args.get("output_type_shape", ())),
        us=interquartile_mean(np.array([e["dur"] for e in events], dtype=float)) + _ROUNDING_US,
    )


def interquartile_mean(values: np.ndarray) -> float:
    """Return the mean of the middle half."""
    ordered = np.sort(values)
    quarter = len(ordered) // 4
    return float(ordered[quarter : len(ordered) - quarter].mean())


def _shapes(entries: list[dict]) -> tuple[Shape, ...]:
    return tuple(tuple(int(d) for d in next(iter(entry.values()))) for entry in entries if entry)
