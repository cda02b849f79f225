"""LiteRT (TensorFlow Lite): the op profile of `benchmark_model`, as CSV (or as it prints it) and as proto,
and the summary of the library's own profiler (`LiteRtGetProfileSummary`).

The CSV is one block a graph and one for a delegate's own kernels; only the regular runs count, in run order.
The summary has no such runs: it counts an operator once a call of all that were profiled.
A delegate that tells of its kernels stands for nothing itself. "Inference timings", which the program prints
last, say what a call takes without the profiler. The proto is `BenchmarkProfilingData` of
tflite/profiling/proto/profiling_info.proto.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError

from dtp_edge.measure.litert_message import benchmark_message
from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader

_REGULAR, _ORDER, _INSIDE = "Regular Benchmark Runs", "= Run Order =", "Delegate internal"
_END = "nodes observed"
_CALL = re.compile(r"Inference timings in us: .*Inference \(avg\): ([0-9.e+-]{1,20})")
_COLUMNS = ("node type", "avg_ms", "times called", "name")


def recognises(content: Content) -> bool:
    if content.text is None or "\0" in content.text[:4096] or content.text[:1] in "\n\x12\x1a":
        return _message(content) is not None or _is_table(content)
    return _is_table(content)


def read(content: Content, _: Content | None) -> Printout:
    message = _message(content)
    graph, inside = _of_message(message) if message is not None else _of_table(content)
    own = [row for row in graph if not (inside and "delegate" in row.type.lower())]
    apart = bool(own and inside)  # which of the graph's rows run between which of a delegate's is not said
    rows = tuple(own + inside)
    return Printout(str(content.path), "LiteRT", rows, latency_ms=_call_ms(content), ordered=not apart)


def _call_ms(content: Content) -> float | None:
    """The time of a call without the profiler, where the program's last line is in the file."""
    for number, line in reversed([*enumerate(content.lines, 1)]):
        if match := _CALL.search(line[:1000]):
            return 1e-3 * content.number(match[1], number) or None
    return None


def _is_table(content: Content) -> bool:
    return any(_ORDER in line for line in content.lines[:5000]) and "node type" in (content.text or "")


def _of_table(content: Content) -> tuple[list[PrintedRow], list[PrintedRow]]:
    graph: list[tuple[PrintedRow, float]] = []
    inside: list[tuple[PrintedRow, float]] = []
    regular = not any(_REGULAR in line for line in content.lines)
    delegate, head = False, 0
    for number, line in enumerate(content.lines, 1):
        regular = regular or _REGULAR in line
        delegate = delegate or _INSIDE in line
        if regular and _ORDER in line:
            head = number + 1
        elif head and number > head:
            if not line.strip() or "====" in line:
                head = 0
                continue
            (inside if delegate else graph).append(_line(content, number, head))
    printed = any("[node type]" in line for line in content.lines)
    if head or (printed and not any(_END in line for line in content.lines)):  # blocks follow that of rows
        raise content.fault("ends inside its table: the file is cut off", len(content.lines))
    if not any(_REGULAR in line for line in content.lines):
        runs = min((calls for _, calls in graph), default=1.0)
        graph = [(row, calls / runs) for row, calls in graph]
    return _in_a_call(graph), _in_a_call(inside)


def _in_a_call(rows: list[tuple[PrintedRow, float]]) -> list[PrintedRow]:
    return [replace(row, time=row.time * calls) for row, calls in rows]


def _line(content: Content, number: int, head: int) -> tuple[PrintedRow, float]:
    """Return a row with the mean of one run of it, and how often it ran."""
    titles = content.lines[head - 1]
    comma = "[" not in titles  # a CSV, whose names have none
    columns = _cells(titles, comma) if comma else re.findall(r"\[([^\]]*)\]", titles)
    columns = [name.strip().lower().replace("avg ms", "avg_ms") for name in columns]
    cells = _cells(content.lines[number - 1], comma)
    if len(cells) < len(columns):
        raise content.fault(f"{len(cells)} fields for {len(columns)} columns", number)
    row = dict(zip(columns, cells, strict=False))
    if not set(_COLUMNS) <= set(row):
        raise content.fault(f"the table lacks one of {', '.join(_COLUMNS)}", head)
    calls = content.number(row["times called"], number)
    ms = content.number(row["avg_ms"], number)
    return PrintedRow(_names(content.name(row["name"], number)), row["node type"], ms), max(1.0, calls)


def _cells(line: str, comma: bool) -> list[str]:
    parts = line.split(",", 7) if comma else re.split(r"\t+|\s{2,}", line.strip())
    return [part.strip() for part in parts]


def _names(name: str) -> tuple[str, ...]:
    plain = re.sub(r"\]?:\d+$", "", name).lstrip("[")
    return (name, *(part for part in re.split(r"[;\t]", plain) if part))


def _of_message(message: Any) -> tuple[list[PrintedRow], list[PrintedRow]]:
    profile = message.runtime_profile
    graphs = [_op(op) for part in profile.subgraph_profiles for op in part.per_op_profiles]
    delegates = [_op(op) for part in profile.delegate_profiles for op in part.per_op_profiles]
    return graphs, delegates


def _op(op: Any) -> PrintedRow:
    stat = op.inference_microseconds
    ms = 1e-3 * stat.sum / max(1, stat.count) * max(1, op.times_called)
    return PrintedRow(_names(op.name[:20_000]), op.node_type[:200], max(0.0, ms))


def _message(content: Content) -> Any:
    message = benchmark_message()
    try:
        message.ParseFromString(content.data)
    except DecodeError:
        return None
    return message if any(p.per_op_profiles for p in message.runtime_profile.subgraph_profiles) else None


READER = Reader(
    title="LiteRT op profile (CSV, proto, printed)",
    made_by="benchmark_model --graph=F.tflite --enable_op_profiling=true "
    "--op_profiling_output_mode=csv|proto --op_profiling_output_file=FILE",
    fixture="litert.txt",
    fixture_from="the profiler in libLiteRt.so of ai-edge-litert 2.3.0, ResNet-8",
    notes="The package brings no benchmark_model: `benchmarks/runtimes/litert_counters.py F.tflite OUT` asks "
    "its library. CSV and proto are tested on files written from the documented format.",
    recognises=recognises,
    read=read,
)
