"""The message that LiteRT's `benchmark_model` writes, `BenchmarkProfilingData` of profiling_info.proto."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

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


def benchmark_message(**fields: Any) -> Any:
    """Return a message, empty but for `fields`."""
    return _benchmark()(**fields)


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
