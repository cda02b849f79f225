"""Switch a traced graph between training and evaluation: the flags are literals in it."""

from __future__ import annotations

from torch import fx

from dtp_edge.graph.values import op_name

# operator -> name of its flag in the schema
FLAGS = {
    "batch_norm": "training",
    "dropout": "train",
    "dropout_": "train",
    "alpha_dropout": "train",
    "feature_dropout": "train",
    "feature_alpha_dropout": "train",
    "alpha_dropout_": "train",
    "feature_dropout_": "train",
    "feature_alpha_dropout_": "train",
    "native_dropout": "train",
    "instance_norm": "use_input_stats",
    "rrelu": "training",
    "lstm": "train",
    "gru": "train",
    "rnn_tanh": "train",
    "rnn_relu": "train",
}


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
    flag = FLAGS.get(op_name(node)) if node.op == "call_function" else None
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
