"""A graph of ATen operators as plain JSON, and back: no pickle, no code, nothing but known operators.

A node is `{"name", "op", "target", "args", "kwargs"}`. Arguments are JSON values; what JSON lacks is an
object with one key: `{"node": name}`, `{"tuple": [...]}`, `{"dict": {...}}`, `{"slice": [a, b, c]}`,
`{"float": "inf"}`, `{"dtype": "float32"}`, `{"device": "cpu"}`, `{"layout": ...}`, `{"memory_format": ...}`.
"""

from __future__ import annotations

import keyword
import math
import operator
import re
import unicodedata
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import CodeGen

from dtp_edge.archive.storable import allowed, misfit
from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.graph.modes import is_mode
from dtp_edge.ops.sizes import SIZE_FUNCTIONS
from dtp_edge.surgery.compact_graph import CompactGraph

HINT = "The folder was changed or cut short after it was written: copy it again, or prune again."
_WRITING_HINT = "Replace it in the network, or prune the part of the network that does without it."

MAX_NODES = 10_000
MAX_DEPTH = 12
_MOST_LEVELS, _LONGEST_NAME = 40, 1_000
_NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,999}")
_TAKEN_BELOW = frozenset(dir(nn.Module())) - {"T_destination"}  # no tensor may stand in their place
_TAKEN = _TAKEN_BELOW | frozenset(dir(CompactGraph)) | {"graph", "_graph", "_code", "_codegen", "_tracer_cls"}
_SPOKEN_FOR = frozenset({"self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree"})
DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "bool", "uint8", "int8", "int16", "int32", "int64"),
    *("complex64", "complex128"),
)
_LAYOUTS = ("strided",)
_MEMORY_FORMATS = ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")


def graph_to_json(graph: fx.Graph) -> list[dict[str, Any]]:
    """Return the nodes of `graph`.

    Raises `UnsupportedError` if a node cannot be stored (an operator outside ATen, a nested input).
    """
    if type(graph._codegen) is not CodeGen:
        raise UnsupportedError(
            "a network with nested inputs cannot be stored", hint="Let each argument be one tensor."
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
    raise UnsupportedError(f"the operator {target} cannot be stored", where=node.name, hint=_WRITING_HINT)


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
        f"an argument of type {type(value).__name__} cannot be stored", where=node.name, hint=_WRITING_HINT
    )


def graph_from_json(nodes: list[Any], tensor_names: set[str]) -> fx.Graph:
    """Rebuild a graph that reads the tensors named.

    Raises `InputError` on anything that is not a graph written by `graph_to_json`.
    """
    if not 0 < len(nodes) <= MAX_NODES:
        raise InputError(f"has {len(nodes)} nodes; read are 1 to {MAX_NODES}", where="graph", hint=HINT)
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for i, entry in enumerate(nodes):
        where = f"graph[{i}]"
        name, op = entry["name"], entry["op"]
        if not _is_word(name) or name in known:
            raise InputError("bad or repeated node name", where=where, hint=HINT)
        args = tuple(_decode(a, known, where) for a in entry["args"])
        kwargs = {k: _decode(v, known, where) for k, v in entry["kwargs"].items()}
        target = _target(op, entry["target"], tensor_names, where)
        _check_arguments(op, target, args, kwargs, where)
        known[name] = graph.create_node(op, target, args, kwargs, name=name)
    if sum(n.op == "output" for n in graph.nodes) != 1 or next(reversed(graph.nodes)).op != "output":
        raise InputError("must end in one output", where="graph", hint=HINT)
    graph.lint()
    return graph


def tensor_name_fault(name: str) -> str | None:
    """Return why a tensor cannot have this name in a stored network; None if it can.

    The names of modules are the user's: any letters, spaces, slashes. But they stand in the Python code that
    the graph becomes, quoted, and next to what a module has of its own.
    """
    parts = name.split(".")
    if len(parts) > _MOST_LEVELS or len(name) > _LONGEST_NAME:
        return f"is {len(parts)} levels deep and {len(name)} characters long"
    for level, part in enumerate(parts):
        if not part or not part.isprintable() or '"' in part or "\\" in part:
            return "holds a quote, a backslash or what cannot be printed"
        if part.isidentifier() and unicodedata.normalize("NFKC", part) != part:
            return f"has the part {part!r}, which Python does not take for a name"
        if part in (_TAKEN if level == 0 else _TAKEN_BELOW):
            return f"has the part {part!r}, which every module has of its own"
    return None


def _is_word(text: str) -> bool:
    return bool(_NODE_NAME.fullmatch(text)) and not keyword.iskeyword(text) and text not in _SPOKEN_FOR


def _word(text: str, where: str) -> str:
    if not _is_word(text):
        raise InputError("bad argument name", where=where, hint=HINT)
    return text


def _check_arguments(op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], where: str) -> None:
    fault = None
    if isinstance(target, torch._ops.OpOverload):
        fault = misfit(target, args, kwargs)
    elif op == "call_function":
        plain = all(isinstance(a, fx.Node | int | float) for a in args)
        sizes = plain and not kwargs and 1 <= len(args) <= 2
        fits = sizes or _opens_input(target, args, kwargs)
        fault = None if fits else "has arguments that are not sizes"
    elif op != "output" and (args or kwargs):
        fault = "has arguments"
    elif op == "output" and (len(args) != 1 or kwargs):
        fault = "must give back one value"
    if fault is not None:
        raise InputError(fault, where=where, hint=HINT)


def _opens_input(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a node takes a tensor out of an input that is a dict, by its key."""
    if target is not operator.getitem or kwargs or len(args) != 2 or not isinstance(args[1], str):
        return False
    source = args[0]
    for _ in range(MAX_DEPTH):
        if isinstance(source, fx.Node) and source.target is operator.getitem:
            source = source.args[0]
    return isinstance(source, fx.Node) and source.op == "placeholder"


def _target(op: str, name: str, tensor_names: set[str], where: str) -> Any:
    if op == "placeholder" or op == "output":
        return _word(name, where)
    if op == "get_attr":
        if name not in tensor_names:
            raise InputError(f"reads a tensor {name[:100]!r} that is not stored", where=where, hint=HINT)
        return name
    if op != "call_function":
        raise InputError(f"unknown kind of node {op[:40]!r}", where=where, hint=HINT)
    space, _, rest = name.partition(".")
    if space == "size" and rest in SIZE_FUNCTIONS:
        return SIZE_FUNCTIONS[rest]
    packet, _, overload = rest.partition(".")
    if space == "aten" and _NODE_NAME.fullmatch(packet) and _NODE_NAME.fullmatch(overload):
        found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
        if isinstance(found, torch._ops.OpOverload) and allowed(found):
            return found
    raise InputError(
        f"{name[:99]!r} is not an operator that a stored network may hold", where=where, hint=HINT
    )


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
        raise InputError("holds a value that cannot be an argument", where=where, hint=HINT)
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
    "dict": lambda v, known, where, depth: {k: _decode(x, known, where, depth) for k, x in v.items()},
    "slice": lambda v, known, where, depth: slice(*_items(v, known, where, depth)),
    "float": lambda v, *_: {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[v],
    "dtype": _named(DTYPES),
    "layout": _named(_LAYOUTS),
    "memory_format": _named(_MEMORY_FORMATS),
    "device": lambda v, *_: torch.device({"cpu": "cpu", "cuda": "cuda", "mps": "mps"}[v]),
}
