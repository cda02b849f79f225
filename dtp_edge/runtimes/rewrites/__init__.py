"""Rewrites that let a runtime's unit take an operator: the same function in operators that it knows.

One file each, found by itself. `REWRITE` says which formats it is for and, in one line, what it changes;
`apply(module)` changes a graph in place and returns how often. None of them changes what is computed beyond
rounding: a test holds each to that in float64, and every file is compared with the network before it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from dtp_edge.files.found import modules_in


@dataclass(frozen=True)
class Rewrite:
    """One rewrite: `kinds` names the operators (ATen) that it takes away, for "what to change"."""

    name: str
    formats: tuple[str, ...]
    about: str
    kinds: tuple[str, ...] = ()

    def apply(self, module: Any) -> int:
        """Change the graph in place; return in how many places."""
        return importlib.import_module(f"{__name__}.{self.name}").apply(module)


def all_rewrites() -> tuple[Rewrite, ...]:
    """Return every rewrite, in the order of their names."""
    return tuple(Rewrite(name, **module.REWRITE) for name, module in modules_in(__name__).items())


def rewrites_of(format_name: str) -> tuple[Rewrite, ...]:
    """Return the rewrites for a format."""
    return tuple(one for one in all_rewrites() if format_name in one.formats)
