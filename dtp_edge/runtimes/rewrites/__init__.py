"""Rewrites that let a runtime's unit take an operator: the same function in operators that it knows.

One file each, found by itself. `REWRITE` says which formats it is for and, in one line, what it changes;
`apply(module)` changes a graph in place and returns how often. None of them changes what is computed beyond
rounding: a test holds each to that in float64, and every file is compared with the network before it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dtp_edge.errors import InputError, nearest
from dtp_edge.files.found import modules_in


@dataclass(frozen=True)
class Rewrite:
    """One rewrite: `kinds` names the operators that it takes away, for "what to change"; `default` says
    whether it is used where nothing is said, which one that costs something is not."""

    name: str
    formats: tuple[str, ...]
    about: str
    kinds: tuple[str, ...] = ()
    default: bool = True

    def apply(self, module: Any) -> int:
        """Change the graph in place; return in how many places."""
        return importlib.import_module(f"{__name__}.{self.name}").apply(module)


def all_rewrites() -> tuple[Rewrite, ...]:
    """Return every rewrite, in the order of their names."""
    return tuple(Rewrite(name, **module.REWRITE) for name, module in modules_in(__name__).items())


def chosen_rewrites(text: str | Sequence[str]) -> tuple[str, ...] | None:
    """Return the rewrites that were asked for: "all", "none", names with commas, or None for "default".

    Raises InputError for a name that is no rewrite.
    """
    names = [n.strip() for n in (text.split(",") if isinstance(text, str) else text) if n.strip()]
    known = {one.name: one for one in all_rewrites()}
    if names in (["default"], ["all"], ["none"]):
        return {"default": None, "all": tuple(known), "none": ()}[names[0]]
    for name in names:
        if name not in known:
            close = nearest(name, known)
            lines = "; ".join(f"{one.name} ({', '.join(one.formats)}: {one.about})" for one in known.values())
            hint = f"Nearest: {', '.join(close)}." if close else f"default, all, none, or of: {lines}."
            raise InputError(f"no rewrite is called {name!r}", where="--rewrites", hint=hint)
    return tuple(dict.fromkeys(names))


def rewrites_of(format_name: str) -> tuple[Rewrite, ...]:
    """Return the rewrites for a format."""
    return tuple(one for one in all_rewrites() if format_name in one.formats)
