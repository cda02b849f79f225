"""A graph module whose Python code is written when it is first looked at, not whenever its graph changes.

Writing and compiling the code of a graph takes longer than finding out what to prune in it, and most graphs
on the way from a trace to a compact network are never run.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import fx, nn

from dtp_edge.errors import UnsupportedError

Kind = TypeVar("Kind", bound="LazyGraphModule")


class _Unwritten:
    """Stands where `forward` will be: looking at it writes the code."""

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        module.write_code()
        return module.forward


class LazyGraphModule(fx.GraphModule):
    """`recompile` only forgets the code; a call, the signature, the source or pickling have it written."""

    def recompile(self) -> Any:
        type(self).forward = _Unwritten()  # type: ignore[method-assign,assignment]

    def write_code(self) -> Any:
        """Write `forward` from the graph as it stands."""
        with self.graph.on_generate_code(lambda before: _spelling(self.graph, before)):
            return super().recompile()

    @property
    def code(self) -> str:
        if isinstance(vars(type(self)).get("forward"), _Unwritten):
            self.write_code()
        return self._code

    def __str__(self) -> str:
        return f"{nn.Module.__repr__(self)}\n{self.code}"

    def __reduce__(self) -> Any:
        if odd := _keywords(self.graph):
            raise UnsupportedError(
                "torch.fx cannot pickle a graph whose layers are called what Python keeps for itself",
                where=odd[0],
                hint="Save its state_dict(), or load the folder of the run with load_pruned.",
            )
        plain = fx.GraphModule(self, self.graph)
        self.graph.owning_module = self
        return plain.__reduce__()


def _spelling(graph: fx.Graph, before: Callable[[list[str]], list[str]] | None) -> Any:
    """Return what writes `getattr(self, 'class')` in a graph's code where torch.fx writes `self.class`."""
    odd = _keywords(graph)
    texts = {f" = {_attribute(t, str.isidentifier)}": f" = {_attribute(t, _is_plain)}" for t in odd}

    def rewrite(body: list[str]) -> list[str]:
        for old, new in texts.items():
            body = [line.removesuffix(old) + new if line.endswith(old) else line for line in body]
        return before(body) if before else body

    return rewrite


def _keywords(graph: fx.Graph) -> list[str]:
    """Return the names with a keyword in them that a graph reads."""
    targets = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    return sorted(filter(has_keyword, targets))


def has_keyword(name: str) -> bool:
    """Return whether a part of a dotted name is what Python keeps for itself."""
    return any(map(keyword.iskeyword, name.split(".")))


def _attribute(target: str, is_plain: Callable[[str], bool]) -> str:
    text = "self"
    for part in target.split("."):
        text = f"{text}.{part}" if is_plain(part) else f'getattr({text}, "{part}")'
    return text


def _is_plain(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)


def refuse_unwritable(targets: Iterable[str]) -> None:
    """Raise `UnsupportedError` for the name of a layer or tensor that the code of a graph cannot write.

    torch.fx writes names as they are: no quote, backslash or line end. Nor may a name hide what the graph
    module, or a module within, has of its own.
    """
    outer, inner = LazyGraphModule(nn.Module(), fx.Graph()), nn.Module()
    for target in targets:
        for i, part in enumerate(target.split(".")):
            odd = '"' in part or "\\" in part or not part.isprintable()
            if odd or hasattr(inner if i else outer, part):
                raise UnsupportedError(
                    f"{part!r} cannot be the name of a part of a graph",
                    where=repr(target),
                    hint="Rename that layer or tensor: no quote or backslash, and none of the "
                    "names that torch.fx's graph module has of its own.",
                )


def graph_module_over(
    graph: fx.Graph, tensors: Mapping[str, Any], kind: type[Kind], name: str = "GraphModule"
) -> Kind:
    """Return the module of `graph` with `tensors` (and modules) at their dotted names.

    Parameters become parameters, other tensors buffers: written straight into the tables of plain modules.
    """
    module = kind(nn.Module(), fx.Graph(), class_name=name)
    owners: dict[str, nn.Module] = {"": module}
    for target, tensor in tensors.items():
        path, _, last = target.rpartition(".")
        owner = owners.get(path) or _submodule(owners, path)
        table: dict[str, Any] = owner._buffers
        if isinstance(tensor, nn.Parameter):
            table = owner._parameters
        elif isinstance(tensor, nn.Module):
            table = owner._modules
        elif not isinstance(tensor, torch.Tensor):
            table = owner.__dict__
        table[last] = tensor
    module.graph = graph
    return module


def _submodule(owners: dict[str, nn.Module], path: str) -> nn.Module:
    """Return the module at a path, made with all those above it where they lack."""
    if path not in owners:
        above, _, last = path.rpartition(".")
        owners[path] = _submodule(owners, above)._modules[last] = nn.Module()
    return owners[path]
