"""ONNX Runtime's profile: a Chrome trace, one event a kernel and call (`SessionOptions.enable_profiling`).

A kernel's name is the output of the last node in it, or the node's own name, with what the runtime made of it
behind (`_nchwc`). The first call warms up and does not count, if there are others.
"""

from __future__ import annotations

import numpy as np

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader

_END = "_kernel_time"
_ROUNDING_US = 0.5  # whole microseconds, rounded down


def recognises(content: Content) -> bool:
    document = content.json
    if not isinstance(document, list) or not document or not isinstance(document[0], dict):
        return False
    return "ph" in document[0] and any(_is_node(event) for event in document)


def read(content: Content, _: Content | None) -> Printout:
    calls: dict[tuple[str, str], list[float]] = {}
    types: dict[tuple[str, str], tuple[str, str]] = {}
    for index, event in enumerate(content.json):
        if not _is_node(event):
            continue
        path = f"$[{index}]"
        arguments = content.member(event, "args", dict, path)
        key = (str(arguments.get("node_index", "")), event["name"])
        calls.setdefault(key, []).append(content.number(event.get("dur"), f"{path}.dur"))
        types[key] = (
            content.name(arguments.get("op_name"), f"{path}.args.op_name"),
            str(arguments.get("provider", "")),
        )
    rows = []
    for key, times in calls.items():
        name = key[1].removesuffix(_END)
        names = (name, name.removesuffix("_nchwc"))
        kept = times[1:] or times
        rows.append(
            PrintedRow(names, types[key][0], float(np.median(kept)) + _ROUNDING_US, unit=types[key][1])
        )
    return Printout(str(content.path), "ONNX Runtime", tuple(rows), time_ms=1e-3)


def _is_node(event: object) -> bool:
    return isinstance(event, dict) and event.get("cat") == "Node" and str(event.get("name")).endswith(_END)


READER = Reader(
    title="ONNX Runtime profile (JSON)",
    made_by="SessionOptions.enable_profiling = True; session.end_profiling(); or onnxruntime_perf_test -p P",
    fixture="onnxruntime.json",
    fixture_from="ONNX Runtime 1.32",
    recognises=recognises,
    read=read,
)
