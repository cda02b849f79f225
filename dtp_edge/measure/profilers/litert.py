"""LiteRT (TensorFlow Lite): the op profile of `benchmark_model`, as CSV (or as it prints it) and as proto.

The CSV is one block a graph and one for a delegate's own kernels; only the regular runs count, in run order.
A delegate that tells of its kernels stands for nothing itself. The proto is `BenchmarkProfilingData` of
tflite/profiling/proto/profiling_info.proto.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from dtp_edge.measure.printout import Content, PrintedRow, Printout, Reader

_REGULAR, _ORDER, _INSIDE = "Regular Benchmark Runs", "= Run Order =", "Delegate internal"
_COLUMNS = ("node type", "avg_ms", "times called", "name")
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {  # name, number, type: a message's, "*" repeated
    "Stat": (("sum", 8, "int64"), ("count", 9, "int64")),
    "Op": (
        ("node_type", 1, "string"),
        ("inference_microseconds", 2, "Stat"),
        ("times_called", 4, "int64"),
        ("name", 5, "string"),
    ),
    "Subgraph": (("per_op_profiles", 3, "Op*"),),
    "Delegate": (("per_op_profiles", 2, "Op*"),),
    "Model": (("subgraph_profiles", 1, "Subgraph*"), ("delegate_profiles", 2, "Delegate*")),
    "Benchmark": (("model_name", 1, "string"), ("runtime_profile", 3, "Model")),
}


def recognises(content: Content) -> bool:
    if content.text is None or "\0" in content.text[:4096] or content.text[:1] in "\n\x12\x1a":
        return _message(content) is not None or _is_table(content)
    return _is_table(content)


def read(content: Content, _: Content | None) -> Printout:
    message = _message(content)
    graph, inside = _of_message(message) if message is not None else _of_table(content)
    rows = [row for row in graph if not (inside and "delegate" in row.type.lower())] + inside
    return Printout(str(content.path), "LiteRT", tuple(rows))


def _is_table(content: Content) -> bool:
    return any(_ORDER in line for line in content.lines[:5000]) and "node type" in (content.text or "")


def _of_table(content: Content) -> tuple[list[PrintedRow], list[PrintedRow]]:
    graph: list[PrintedRow] = []
    inside: list[PrintedRow] = []
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
    if head:  # the block of a whole file is followed by others
        raise content.fault("ends inside its table: the file is cut off", len(content.lines))
    return graph, inside


def _line(content: Content, number: int, head: int) -> PrintedRow:
    columns = [
        name.strip(" []").lower().replace("avg ms", "avg_ms") for name in _cells(content.lines[head - 1])
    ]
    cells = _cells(content.lines[number - 1])
    if len(cells) < len(columns):
        raise content.fault(f"{len(cells)} fields for {len(columns)} columns", number)
    row = dict(zip(columns, cells, strict=False))
    if not set(_COLUMNS) <= set(row):
        raise content.fault(f"the table lacks one of {', '.join(_COLUMNS)}", head)
    calls = content.number(row["times called"], number)
    ms = content.number(row["avg_ms"], number) * max(1.0, calls)
    return PrintedRow(_names(content.name(row["name"], number)), row["node type"], ms)


def _cells(line: str) -> list[str]:
    """Return a line's fields: apart by commas in a CSV (whose names have none), by tabs where printed."""
    comma = "," in line and "\t" not in line.strip().split(",")[0]
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
    message = _benchmark()()
    try:
        message.ParseFromString(content.data)
    except DecodeError:
        return None
    return message if any(p.per_op_profiles for p in message.runtime_profile.subgraph_profiles) else None


@cache
def _benchmark() -> type[Any]:
    """Return the class of the message, made of the fields that are read; others are passed over."""
    kind_of = descriptor_pb2.FieldDescriptorProto
    plain = {"int64": kind_of.TYPE_INT64, "string": kind_of.TYPE_STRING}
    file = descriptor_pb2.FileDescriptorProto(name="litert.proto", package="litert", syntax="proto3")
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        for name, number, kind in fields:
            label = kind_of.LABEL_REPEATED if kind.endswith("*") else kind_of.LABEL_OPTIONAL
            field = made.field.add(name=name, number=number, label=label)
            field.type = plain.get(kind, kind_of.TYPE_MESSAGE)
            if kind not in plain:
                field.type_name = f".litert.{kind.rstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("litert.Benchmark"))


READER = Reader(
    title="LiteRT op profile (CSV, proto)",
    made_by="benchmark_model --graph=F.tflite --enable_op_profiling=true "
    "--op_profiling_output_mode=csv|proto --op_profiling_output_file=FILE",
    fixture="litert.csv",
    fixture_from="written from the documented format: LiteRT's packages bring no benchmark_model",
    recognises=recognises,
    read=read,
)
