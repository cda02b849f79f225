"""Switch a traced graph between training and evaluation: the flags are literals in it."""

from __future__ import annotations

from torch import fx

from dtp_edge.ops.nodes import op_name
from dtp_edge.ops.spec import spec_of


def set_training(graph_module: fx.GraphModule, training: bool) -> fx.GraphModule:
    """Rewrite the train flags of batch norm, dropout and recurrent layers in place, and return the graph."""
    changed = [_set_flag(node, training) for node in graph_module.graph.nodes]
    if any(changed):
        graph_module.recompile()
    graph_module.training = training
    return graph_module


def _set_flag(node: fx.Node, training: bool) -> bool:
    """Set the train flag of a node, if it has one, and return whether it changed.

    A batch norm without running statistics, and an instance norm without them, always use those of the
    input and are left alone.
    """
    spec = spec_of(op_name(node)) if node.op == "call_function" else None
    flag = None if spec is None else spec.training_flag
    if flag is None or not hasattr(node.target, "_schema"):
        return False
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    if ("running_mean" in names and given.get("running_mean") is None) or given.get(flag) is training:
        return False
    position = names.index(flag)
    if position < len(node.args):
        node.update_arg(position, training)
    else:
        node.update_kwarg(flag, training)
    return True
