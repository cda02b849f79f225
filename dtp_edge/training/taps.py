"""Listening to a network while it runs: what its submodules, or the nodes of its graphs, put out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

__all__ = ["Taps"]


class Taps:
    """Keeps the last output of every place listened to, by its name: a submodule's path or a node.

    Of a network that learns (`learning`) nothing is kept where no gradient is: scoring it leaves no trace.
    """

    def __init__(self, *, learning: bool) -> None:
        self._outputs: dict[str, Tensor] = {}
        self._learning = learning
        self._undo: list[Callable[[], None]] = []

    def on_modules(self, module: nn.Module, paths: Sequence[str]) -> Taps:
        """Listen to submodules, which must each be called once a forward."""
        for path in paths:
            handle = module.get_submodule(path).register_forward_hook(self._keep(path))
            self._undo.append(handle.remove)
        return self

    def on_nodes(self, graph_module: fx.GraphModule, names: Sequence[str]) -> Taps:
        """Listen to nodes of a graph: an identity module is put behind each of them, until `close`."""
        for name in names:
            self._insert(graph_module, name)
        graph_module.recompile()
        return self

    def _keep(self, place: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            if isinstance(out, Tensor) and (torch.is_grad_enabled() or not self._learning):
                self._outputs[place] = out

        return hook

    def _insert(self, graph_module: fx.GraphModule, name: str) -> None:
        graph, path = graph_module.graph, f"tap_{name}"
        node = next(n for n in graph.nodes if n.name == name)
        identity = nn.Identity()
        graph_module.add_submodule(path, identity)
        with graph.inserting_after(node):
            tap = graph.call_module(path, (node,))
        node.replace_all_uses_with(tap, delete_user_cb=lambda user: user is not tap)
        identity.register_forward_hook(self._keep(name))

        def undo() -> None:
            tap.replace_all_uses_with(node)
            graph.erase_node(tap)
            graph_module.delete_submodule(path)
            graph_module.recompile()

        self._undo.append(undo)

    def take(self) -> dict[str, Tensor]:
        """Return what was kept, and forget it."""
        found, self._outputs = self._outputs, {}
        return found

    def close(self) -> None:
        """Leave the networks as they were."""
        for undo in self._undo:
            undo()
        self._undo, self._outputs = [], {}
