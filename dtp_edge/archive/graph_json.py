"""A graph of ATen operators as plain JSON, and back: no pickle, no code, nothing but known operators.

A node is `{"name", "op", "target", "args", "kwargs"}`. Arguments are JSON values; what JSON lacks is an
object with one key: `{"node": name}`, `{"tuple": [...]}`, `{"dict": {...}}`, `{"slice": [a, b, c]}`,
`{"float": "inf"}`, `{"dtype": "float32"}`, `{"device": "cpu"}`, `{"layout": ...}`, `{"memory_format": ...}`.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import fx
from torch.fx.graph import CodeGen

from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.graph.modes import is_mode
from dtp_edge.ops.sizes import SIZE_FUNCTIONS
from dtp_edge.ops.spec import spec_of

HINT = "The folder was changed or cut short after it was written: copy it again, or prune again."

MAX_NODES = 200_000
MAX_DEPTH = 12
_NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_TENSOR_NAME = re.compile(r"[\w-]{1,200}(\.[\w-]{1,200}){0,40}", re.ASCII)
_DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "bool", "uint8", "int8", "int16", "int32", "int64"),
    *("complex64", "complex128"),
)
_LAYOUTS = ("strided",)
_MEMORY_FORMATS = ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")

# An operator is allowed if its specification says so and its schema shows that it computes tensors or sizes
# from tensors, numbers and these words.
_TEXT_ARGUMENTS = {
    *("mode", "padding", "equation", "approximate", "rounding_mode", "indexing", "reduce", "padding_mode"),
    *("interpolation", "side", "reduction"),
}
_ARGUMENT_TYPES = re.compile(
    r"(Tensor|Optional\[Tensor\]|List\[(Optional\[)?Tensor\]?\]|Optional\[List\[Tensor\]\]|number|Optional\[number\]"
    r"|int|bool|float|Optional\[(int|bool|float|List\[int\]|List\[float\]|List\[bool\])\]|List\[(int|bool|float|number)\]"
    r"|Device|Optional\[Device\])"
)
_RETURN_TYPES = re.compile(r"(Tensor|List\[Tensor\]|int|bool|float|number)")


def allowed(overload: Any) -> bool:
    """Return whether a stored graph may hold this ATen operator."""
    schema = overload._schema
    spec = spec_of(schema.name.removeprefix("aten::"))
    if not schema.name.startswith("aten::") or spec is None or not spec.storable:
        return False
    for argument in schema.arguments:
        kind = str(argument.type)
        if kind in ("str", "Optional[str]"):
            if argument.name not in _TEXT_ARGUMENTS:
                return False
        elif kind in ("Generator", "Optional[Generator]"):
            continue  # only ever left at its default: no value of it can be written
        elif not _ARGUMENT_TYPES.fullmatch(kind):
            return False
    return all(_RETURN_TYPES.fullmatch(str(r.type)) for r in schema.returns)


def graph_to_json(graph: fx.Graph) -> list[dict[str, Any]]:
    """Return the nodes of `graph`.

    Raises `UnsupportedError` if a node cannot be stored (an operator outside ATen, a nested input).
    """
    if type(graph._codegen) is not CodeGen:
        raise UnsupportedError(
            "a network with nested inputs cannot be stored", hint="Give it one tensor an argument."
        )
    return [
        {
            "name": n.name,
            "op": n.op,
            "target": _target_name(n),
            "args": [_encode(a, n) for a in n.args],
            "kwargs": {k: _encode(v, n) for k, v in n.kwargs.items()},
        }
        for n in graph.nodes
        if not is_mode(n)
    ]


def require_storable(graph: fx.Graph) -> None:
    """Raise `UnsupportedError` if a node of `graph` cannot be stored, with its name."""
    graph_to_json(graph)


def _target_name(node: fx.Node) -> str:
    target = node.target
    if node.op != "call_function":
        return str(target)
    if isinstance(target, torch._ops.OpOverload) and allowed(target):
        return str(target)
    name = getattr(target, "__name__", "")
    if SIZE_FUNCTIONS.get(name) is target:
        return f"size.{name}"
    raise UnsupportedError(f"the operator {target} cannot be stored", where=node.name, hint=HINT)


def _encode(value: Any, node: fx.Node) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if is_mode(value):
        return False  # a stored graph is that of evaluation; the module that reads it binds its mode anew
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, int):
        return value
    if isinstance(value, list):
        return [_encode(v, node) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, node) for v in value]}
    if isinstance(value, dict):
        return {"dict": {str(k): _encode(v, node) for k, v in value.items()}}
    if isinstance(value, slice):
        return {"slice": [_encode(v, node) for v in (value.start, value.stop, value.step)]}
    for kind, key in (
        (torch.dtype, "dtype"),
        (torch.layout, "layout"),
        (torch.memory_format, "memory_format"),
    ):
        if isinstance(value, kind):
            return {key: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": value.type}
    raise UnsupportedError(
        f"an argument of type {type(value).__name__} cannot be stored", where=node.name, hint=HINT
    )


def graph_from_json(nodes: Any, tensor_names: set[str]) -> fx.Graph:
    """Rebuild a graph that reads the tensors named.

    Raises `InputError` on anything that is not a graph written by `graph_to_json`.
    """
    if not isinstance(nodes, list) or not 0 < len(nodes) <= MAX_NODES:
        raise InputError("is not a list of nodes", where="graph", hint=HINT)
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for i, entry in enumerate(nodes):
        where = f"graph[{i}]"
        name, op = entry["name"], entry["op"]
        if not _NODE_NAME.fullmatch(name) or name in known:
            raise InputError("bad or repeated node name", where=where, hint=HINT)
        args = tuple(_decode(a, known, where) for a in entry["args"])
        kwargs = {_word(k, where): _decode(v, known, where) for k, v in entry["kwargs"].items()}
        target = _target(op, entry["target"], tensor_names, where)
        known[name] = graph.create_node(op, target, args, kwargs, name=name)
    if sum(n.op == "output" for n in graph.nodes) != 1 or next(reversed(graph.nodes)).op != "output":
        raise InputError("must end in one output", where="graph", hint=HINT)
    graph.lint()
    return graph


def _word(text: str, where: str) -> str:
    if not _NODE_NAME.fullmatch(text):
        raise InputError("bad argument name", where=where, hint=HINT)
    return text


def _target(op: str, name: str, tensor_names: set[str], where: str) -> Any:
    if op == "placeholder" or op == "output":
        return _word(name, where)
    if op == "get_attr":
        if name not in tensor_names or not _TENSOR_NAME.fullmatch(name):
            raise InputError(f"reads a tensor {name!r} that is not stored", where=where, hint=HINT)
        return name
    if op != "call_function":
        raise InputError(f"unknown kind of node {op!r}", where=where, hint=HINT)
    space, _, rest = name.partition(".")
    if space == "size" and rest in SIZE_FUNCTIONS:
        return SIZE_FUNCTIONS[rest]
    packet, _, overload = rest.partition(".")
    if space == "aten" and _NODE_NAME.fullmatch(packet) and _NODE_NAME.fullmatch(overload):
        found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
        if isinstance(found, torch._ops.OpOverload) and allowed(found):
            return found
    raise InputError(f"{name!r} is not an operator that a stored network may hold", where=where, hint=HINT)


def _decode(value: Any, known: dict[str, fx.Node], where: str, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise InputError("is nested too deeply", where=where, hint=HINT)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        if len(value) > 1000:
            raise InputError("holds a long text", where=where, hint=HINT)
        return value
    if isinstance(value, list):
        return [_decode(v, known, where, depth + 1) for v in value]
    if not isinstance(value, dict) or len(value) != 1:
        raise InputError("holds a value that is no argument", where=where, hint=HINT)
    ((key, inner),) = value.items()
    try:
        return _DECODERS[key](inner, known, where, depth + 1)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"holds a bad {str(key)[:40]!r} argument", where=where, hint=HINT) from error


def _named(allowed_names: tuple[str, ...]) -> Any:
    def decode(text: Any, *_: Any) -> Any:
        if text not in allowed_names:
            raise ValueError(text)
        return getattr(torch, text)

    return decode


def _items(values: Any, known: dict[str, fx.Node], where: str, depth: int) -> list[Any]:
    if not isinstance(values, list):
        raise ValueError(values)
    return [_decode(v, known, where, depth) for v in values]


_DECODERS: dict[str, Any] = {
    "node": lambda name, known, where, depth: known[name],
    "tuple": lambda v, known, where, depth: tuple(_items(v, known, where, depth)),
    "dict": lambda v, known, where, depth: {
        _word(k, where): _decode(x, known, where, depth) for k, x in v.items()
    },
    "slice": lambda v, known, where, depth: slice(*_items(v, known, where, depth)),
    "float": lambda v, *_: {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[v],
    "dtype": _named(_DTYPES),
    "layout": _named(_LAYOUTS),
    "memory_format": _named(_MEMORY_FORMATS),
    "device": lambda v, *_: torch.device({"cpu": "cpu", "cuda": "cuda", "mps": "mps"}[v]),
}

__all__ = ["allowed", "graph_from_json", "graph_to_json"]
