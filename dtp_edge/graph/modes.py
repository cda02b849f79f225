"""Training and evaluation: the one place that switches between them, for modules and for traced graphs.

A graph traced in evaluation has the flags of its batch norms and dropouts written in as literals. Where such
a graph is to train, `bind_mode` has them read from the graph module instead, whenever it runs: there is
then one truth, `module.training`, whatever sets it (`train()`, `eval()`, an assignment, a copy).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

from dtp_edge.ops.nodes import op_name
from dtp_edge.ops.spec import spec_of

MODE = "training"  # the attribute of a module that a bound flag reads


@contextmanager
def mode_of(*modules: nn.Module, training: bool) -> Iterator[None]:
    """Inside, the modules train or evaluate; behind it every part of them is in the mode that it had."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.train(training)
        yield
    finally:
        for part, was in before:
            part.training = was


def bind_mode(graph: fx.Graph) -> None:
    """Let the train flags of a graph follow its module's mode, in place; the module must recompile.

    A flag that is on in a graph traced in evaluation is on always (a batch norm without running statistics,
    a dropout that the user's code never turns off) and stays.
    """
    mode = next((node for node in graph.nodes if is_mode(node)), None)
    for node in [n for n in graph.nodes if n.op == "call_function"]:
        place = _literal_flag(node)
        if place is None:
            continue
        if mode is None:
            first = next(n for n in graph.nodes if n.op != "placeholder")
            with graph.inserting_before(first):
                # not `graph.get_attr`, which warns of what is no tensor
                mode = graph.create_node("get_attr", MODE, name=MODE)
        if isinstance(place, int):
            node.update_arg(place, mode)
        else:
            node.update_kwarg(place, mode)


def is_mode(value: Any) -> bool:
    """Whether an argument in a graph is the mode of the module that runs it."""
    return isinstance(value, fx.Node) and value.op == "get_attr" and value.target == MODE


def _literal_flag(node: fx.Node) -> int | str | None:
    """Position or name of the argument that turns training on in a node, if it is written in as off."""
    spec = spec_of(op_name(node))
    flag = None if spec is None else spec.training_flag
    if flag is None or not hasattr(node.target, "_schema"):
        return None
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
    position = names.index(flag)
    place = position if position < len(node.args) else flag
    given = node.args[position] if isinstance(place, int) else node.kwargs.get(flag, False)
    return place if given is False else None
