"""What is known of an operator, said once: every table of operators in the house is a view of these.

A specification stands for one operator or for several that share all facts. It is written in a file of
`ops/families`, where it is found by itself, or in a package of one's own that names its module under the
entry point `dtp_edge.operators`. CONTRIBUTING has the steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from dtp_edge.files.found import modules_in

ENTRY_POINT = "dtp_edge.operators"


@dataclass(frozen=True)
class T:
    """A tensor of an example: its shape, and what it holds.

    `kind` is "float", "unit" (between 0 and 1), "large" (above 1), "bool", "index" or "int32" (below `high`).
    With the word "parameter" or "constant" it is a tensor that the network holds, no activation; with
    "float32" it has that precision in every test.
    """

    shape: tuple[int, ...]
    kind: str = "float"
    high: int = 1


@dataclass(frozen=True)
class Example:
    """One use of an operator, from which the tests of its specification are made. Tensors are `T`."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def example(*args: Any, **kwargs: Any) -> Example:
    return Example(args, kwargs)


@dataclass(frozen=True)
class Work:
    """What a MACs rule sees of a kernel: shapes are tuples of dimensions, as the caller counts them."""

    op: str
    family: str
    inputs: tuple[tuple[Any, ...], ...]
    output: tuple[Any, ...]
    attributes: Mapping[str, object]


@dataclass(frozen=True)
class Spec:
    """One operator, or several that share every fact. Names are ATen's, without overload.

    **Arguments:**

    - `names`: the operators; in-place variants (`relu_`) share the facts.
    - `aliases`: other names of them, `{"clip": "clamp"}`; normalising a graph replaces them.
    - `label`: the label rule: takes the context, the arguments by name and the output, a `Value` (or a list)
      whose labels it fills in. None: whatever reaches the operator stays whole.
    - `size`: the size rule: recomputes the literals of a node that depend on widths. None: it has none.
    - `kernel`: the family of kernels that costs are looked up by; "view" costs nothing.
    - `kernel_of`: picks the family where shapes decide: takes the attributes and the inputs' shapes.
    - `macs`: the products of dimensions that sum to its multiply-accumulates, each a list of
      (dimension, side); side "in" and "out" mark what a device rounds up to its step. None: it does none.
    - `fuses`: what it is to a runtime that fuses: "convolution", "activation", "norm" or "".
    - `layout`: what it does on blocked data: "follow", "window", "global", "concat", "transparent", "plain".
    - `memory`: its output is "new" memory, a "view" of its input, or "either".
    - `moves`: it only says the same numbers in another shape or order.
    - `training_flag`: the argument that tells training from evaluation.
    - `masked`: the operator with its statistics over kept indices, weighted by `factors` along `factor_dims`.
    - `storable`: it may stand in a stored graph.
    - `examples`: uses that the tests of the specification run.
    """

    names: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    label: Callable[[Any, dict[str, Any], Any], None] | None = None
    size: Callable[[Any], None] | None = None
    kernel: str = "other"
    kernel_of: Callable[[Mapping[str, object], list[tuple[int, ...]]], str] | None = None
    macs: Callable[[Work], list[list[tuple[Any, str]]]] | None = None
    fuses: str = ""
    layout: str = "plain"
    memory: str = "new"
    moves: bool = False
    training_flag: str | None = None
    masked: Callable[..., Any] | None = None
    storable: bool = True
    examples: tuple[Example, ...] = ()


_SPECS: dict[str, Spec] = {}
_ALIASES: dict[str, str] = {}


def register(spec: Spec) -> Spec:
    """Add a specification. Raises `ValueError` if one of its names is taken."""
    for name in (*spec.names, *spec.aliases):
        if name in _SPECS or name in _ALIASES:
            raise ValueError(f"the operator {name} has a specification already")
    _SPECS.update(dict.fromkeys(spec.names, spec))
    _ALIASES.update(spec.aliases)
    canonical.cache_clear()
    return spec


def spec_of(name: str) -> Spec | None:
    """Return the specification of an operator, by its name or an alias; in-place variants share it."""
    specs = specifications()
    for one in (name, name.removesuffix("_")):
        found = specs.get(_ALIASES.get(one, one))
        if found is not None:
            return found
    return None


@functools.cache
def canonical(name: str) -> str:
    """Return the one name of an operator; an in-place variant keeps its underscore."""
    specifications()
    base = name.removesuffix("_")
    if name not in _ALIASES and base in _ALIASES:
        return f"{_ALIASES[base]}_"
    return _ALIASES.get(name, name)


def aliases() -> Mapping[str, str]:
    """Return {alias: name} of every operator."""
    specifications()
    return _ALIASES


def specifications() -> Mapping[str, Spec]:
    """Return every specification by each of its names, all families found."""
    _find()
    return _SPECS


@functools.cache
def _find() -> None:
    modules_in("dtp_edge.ops.families")
    for point in metadata.entry_points(group=ENTRY_POINT):
        point.load()
