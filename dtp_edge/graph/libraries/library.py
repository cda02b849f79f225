"""The one thing that is known of a library's networks, and how it is found by a network's class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import nn

from dtp_edge.files.found import modules_in

__all__ = ["Library", "library_of"]

Sizes = Callable[[str, int, int], "tuple[int, int] | None"]


def _nothing(*_: Any) -> None:
    return None


def _all(outputs: Any) -> Any:
    return outputs


@dataclass(frozen=True)
class Library:
    """How networks of one library are traced, cut, written and given back.

    - `package`: the first part of the module names of its classes; `base`: the class that they all inherit
    - `prepare(module)`: in place, on our own copy: outputs that only inform and would keep channels go
    - `restore(module)`: undoes it on what the user gets, if that is of the user's class
    - `fit(module, halves)`: in place, on a copy that is cut: attributes and classes that hold sizes;
      `halves(name, dim, at)` says how many indices below and from `at` stay of a tensor's dimension
    - `carry(graph, module)`: gives a graph, which has no class, what losses and readers ask of the network
    - `in_file(outputs)`: those that a file has; `names` of its inputs and outputs
    - `metadata(module, inputs)`: what the library's own reader of the file needs
    """

    package: str
    base: str
    prepare: Callable[[nn.Module], None] = _nothing
    restore: Callable[[nn.Module], None] = _nothing
    fit: Callable[[nn.Module, Sizes], None] = _nothing
    carry: Callable[[nn.Module, nn.Module], None] = _nothing
    in_file: Callable[[Any], Any] = _all
    names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    metadata: Callable[[nn.Module, tuple[Any, ...]], dict[str, str]] = field(default=lambda *_: {})

    def owns(self, module: nn.Module) -> bool:
        """Return whether a network is of this library."""
        kinds = ((kind.__module__.partition(".")[0], kind.__name__) for kind in type(module).__mro__)
        return (self.package, self.base) in kinds


@cache
def _libraries() -> tuple[Library, ...]:
    return tuple(module.LIBRARY for module in modules_in("dtp_edge.graph.libraries", "of_").values())


def library_of(module: nn.Module) -> Library | None:
    """Return what is known of a network by its library, None for all others."""
    return next((library for library in _libraries() if library.owns(module)), None)
