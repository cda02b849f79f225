"""The operators that a stored network may hold: those whose specification says so, with what arguments.

A specification (`ops`) stands for all overloads that compute tensors or sizes from tensors, numbers and
the few words below. Not storable is what no forward pass needs and what trusts its arguments: gradients
(`*_backward`), sparse, quantised and packed tensors, views of raw storage, segment and bag reductions,
gathers without a check of the index.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import torch
from torch import fx

from dtp_edge.archive.recurrent import GATES
from dtp_edge.ops.spec import spec_of

_WORDS = frozenset(
    (
        "mode",
        "padding",
        "equation",
        "approximate",
        "rounding_mode",
        "indexing",
        "reduce",
        "padding_mode",
        "side",
    )
)
_WORD = re.compile(r"[A-Za-z0-9_,.> -]{0,200}")
_PLAIN = re.compile(
    r"(Optional\[)?(List\[)?(Optional\[)?(Tensor|number|int|bool|float|ScalarType|Layout|MemoryFormat|Device"
    r"|SymInt)\]{0,3}"
)
_RETURNS = re.compile(r"(Tensor|List\[Tensor\]|number|int|bool|float|SymInt)")
_LONGEST_LIST, _MOST_DIMS = 10_000, 64
_KINDS: dict[str, tuple[type, ...]] = {
    "Tensor": (int, float),  # a number where a tensor is asked for is one without dimensions
    "number": (int, float),
    "int": (int,),
    "SymInt": (int,),
    "bool": (bool,),
    "float": (int, float),
    "ScalarType": (torch.dtype,),
    "Layout": (torch.layout,),
    "MemoryFormat": (torch.memory_format,),
    "Device": (torch.device,),
}


@functools.cache
def allowed(overload: Any) -> bool:
    """Return whether a stored graph may hold this ATen operator."""
    schema = overload._schema
    name = schema.name.removeprefix("aten::")
    spec = spec_of(name)
    known = spec is not None and spec.storable
    packed = name in GATES and schema.overload_name == "data"  # a packed sequence, which no graph holds
    if not schema.name.startswith("aten::") or not known or packed:
        return False
    kinds = [str(a.real_type) for a in (*schema.arguments, *schema.returns)]
    if not any("Tensor" in kind for kind in kinds):
        return False  # TorchScript's own arithmetic: 1 % 0 of it ends the process
    for argument in schema.arguments:
        kind = str(argument.real_type)
        if argument.is_out:
            return False
        if kind in ("str", "Optional[str]"):
            if argument.name not in _WORDS:
                return False
        elif kind not in ("Generator", "Optional[Generator]") and not _PLAIN.fullmatch(kind):
            return False  # a generator is only ever left at its default: no value of it can be written
    return all(_RETURNS.fullmatch(str(r.real_type)) for r in schema.returns)


def misfit(overload: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return what is wrong with the arguments by the operator's schema: their number, names or types."""
    arguments = overload._schema.arguments
    positional = [a for a in arguments if not a.kwarg_only]
    if len(args) > len(positional):
        return f"has {len(args)} arguments; {overload} takes {len(positional)}"
    given = dict(zip((a.name for a in positional), args, strict=False))
    known = {a.name: a for a in arguments}
    for name in kwargs:
        if name in given or name not in known:
            return f"has the argument {name[:60]!r} twice, or {overload} has none of that name"
    given |= kwargs
    for name, argument in known.items():
        if name not in given:
            if not argument.has_default_value():
                return f"lacks the argument {name!r} of {overload}"
        elif not _fits(given[name], str(argument.real_type), argument.N):
            return f"has an argument {name!r} that is not of type {argument.real_type}"
    return None


def _fits(value: Any, kind: str, count: int | None) -> bool:
    if kind.startswith("Optional["):
        return value is None or _fits(value, kind[9:-1], count)
    if isinstance(value, fx.Node):
        return kind not in ("str", "ScalarType", "Layout", "MemoryFormat", "Device", "Generator")
    if kind.startswith("List["):
        inner = kind[5:-1]
        if isinstance(value, list | tuple):
            most = _LONGEST_LIST if "Tensor" in inner else _MOST_DIMS
            return len(value) <= most and all(_fits(v, inner, None) for v in value)
        return count is not None and _fits(value, inner, None)  # one number for all dimensions
    if kind == "str":
        return isinstance(value, str) and _WORD.fullmatch(value) is not None
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return False
    return isinstance(value, _KINDS.get(kind, ()))
