"""The user's larger network around what is pruned: all of it is trained and judged, a part of it is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dtp_edge.graph import mode_of
from dtp_edge.graph.calls import in_order

__all__ = ["Host"]


@dataclass(frozen=True)
class Host:
    """`whole` has what is pruned as its submodule `path`."""

    whole: nn.Module
    path: str

    def around(self, part: nn.Module, whole: nn.Module | None = None) -> nn.Module:
        """Put `part` in its place in the whole network, or in a copy of it; return that."""
        found = self.whole if whole is None else whole
        found.set_submodule(self.path, part)
        return found

    def inside(self, whole: nn.Module) -> nn.Module:
        """Return what stands in the part's place."""
        return whole.get_submodule(self.path)

    @torch.no_grad()
    def recorded(self, whole: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Return what the part is called with, in its order, when the whole is called so, in evaluation."""
        part, calls = self.inside(whole), []

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append(in_order(module, *args, **kwargs) if kwargs else args)

        handle = part.register_forward_pre_hook(note, with_kwargs=True)
        try:
            with mode_of(whole, training=False):
                whole(*args, **named)
        finally:
            handle.remove()
        return tuple(t.detach() if isinstance(t, Tensor) else t for t in calls[0])
