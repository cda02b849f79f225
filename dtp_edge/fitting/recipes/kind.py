"""What a fitting recipe is: a module of this folder that has a `KIND`, or several `KINDS`. It is found by
itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from dtp_edge.files.found import modules_in
from dtp_edge.fitting.rates import HeldOut

Recipe = dict[str, Any]
TFLITE_FUSION: Mapping[str, Any] = MappingProxyType(
    {
        "norm": True,
        "activations": ["relu", "relu6", "hardtanh", "clamp"],
        "add": False,
        "elementwise_activations": True,
    }
)


class Parts(NamedTuple):
    """What a recipe makes: kernels, held-out predictions, how in words, and other fields of the profile."""

    kernels: dict[str, Any]
    held: HeldOut
    how: str
    more: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Kind:
    """One way of making profiles.

    `build(recipe, data)` fits one; `how` says what was held out. `entries` returns the kind's recipes by
    profile name, where they do not stand in `recipes.json`. `fusion` and `memory` are what all its profiles
    share.
    """

    name: str
    build: Callable[[Recipe, Path], Parts]
    how: str
    fusion: Mapping[str, Any] = field(default_factory=lambda: TFLITE_FUSION)
    memory: Mapping[str, Any] = field(default_factory=dict)
    entries: Callable[[], Mapping[str, Recipe]] | None = None


@lru_cache(maxsize=1)
def kinds() -> dict[str, Kind]:
    """Return every kind of this folder by its name."""
    found: dict[str, Kind] = {}
    for module in modules_in("dtp_edge.fitting.recipes").values():
        for kind in getattr(module, "KINDS", ()):
            found[kind.name] = kind
    return found


@lru_cache(maxsize=1)
def all_recipes() -> dict[str, Recipe]:
    """Return all recipes by profile name: those of `recipes.json`, and those that kinds bring."""
    text = (Path(__file__).parent / "recipes.json").read_text(encoding="utf-8")
    found: dict[str, Recipe] = json.loads(text)
    for kind in kinds().values():
        if kind.entries is not None:
            found |= {name: {"kind": kind.name, **recipe} for name, recipe in kind.entries().items()}
    return found
