"""Run the label rules over a graph, from its inputs to its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.graph.lift import own_tensors
from dtp_edge.ops.nodes import arguments_of, lookup, op_name
from dtp_edge.ops.refusal import Code, NotCovered
from dtp_edge.ops.spec import spec_of
from dtp_edge.ops.values import UNSET, Context, Value, values_of


def label_graph(graph_module: fx.GraphModule) -> Context:
    """Return the labels of every tensor of the graph, the equations solved."""
    ctx = Context(graph_module=graph_module)
    own = own_tensors(graph_module)
    tensors: dict[int, Value] = {}  # one value a tensor object, so that tied parameters share labels
    for node in graph_module.graph.nodes:
        ctx.node = node
        if node.op == "placeholder" or not ctx.activations.isdisjoint(node.all_input_nodes):
            ctx.activations.add(node)
        if node.op == "placeholder":
            ctx.values[node] = output_value(node.meta.get("val"))
        elif node.op == "get_attr":
            target = str(node.target)
            tensor = own[target] if target in own else lookup(graph_module, target)
            if isinstance(tensor, torch.Tensor):
                if id(tensor) not in tensors:
                    unset: list[Any] = [UNSET] * tensor.dim()
                    tensors[id(tensor)] = Value(tuple(tensor.shape), unset, source=target)
                ctx.values[node] = tensors[id(tensor)]
        elif node.op == "call_function":
            output = output_value(node.meta.get("val"))
            if output is not None:
                ctx.values[node] = output
                apply_rule(ctx, node, output)
        elif node.op == "output":
            for source in node.all_input_nodes:
                ctx.freeze_value(ctx.values.get(source), "network output", Code.OUTPUT)
        else:
            for source in node.all_input_nodes:
                ctx.freeze_value(ctx.values.get(source), f"call of {node.target}", Code.NO_RULE)
    return ctx


def has_rule(node: fx.Node) -> bool:
    """Return whether an operator is known here; what is no operator of torch is."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return True
    spec = spec_of(op_name(node))
    return spec is not None and spec.label is not None


def apply_rule(ctx: Context, node: fx.Node, output: Any) -> None:
    """Label the output of a node, or freeze what reaches an operator without a rule.

    A rule that raises `NotCovered` has met a case that it was not written for: inputs and output are frozen.
    """
    name = op_name(node)
    spec = spec_of(name)
    if spec is None or spec.label is None:
        _freeze_all(ctx, node, output, f"no rule for the operator {name}", Code.NO_RULE)
        return
    try:
        spec.label(ctx, arguments_of(node), output)
    except NotCovered as refusal:
        _freeze_all(ctx, node, output, f"{name}: {refusal.text}", Code.NOT_COVERED)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        # a fault of the rule must not stop a user's run: what it touched stays, and tests look for the code
        _freeze_all(ctx, node, output, f"the rule for {name} failed: {type(error).__name__}", Code.FAULT)
    else:
        if not _fits(output):
            _freeze_all(ctx, node, output, f"the rule for {name} gave labels of another shape", Code.FAULT)


def _fits(output: Any) -> bool:
    """Return whether every label array has one row an index."""
    values = values_of(output)
    return all(
        len(v.labels) == v.rank
        and all(
            len(rows) == size
            for size, rows in zip(v.shape, v.labels, strict=True)
            if isinstance(rows, np.ndarray)
        )
        for v in values
    )


def _freeze_all(ctx: Context, node: fx.Node, output: Any, text: str, code: Code) -> None:
    for source in node.all_input_nodes:
        ctx.freeze_value(ctx.values.get(source), text, code)
    for value in values_of(output):
        ctx.freeze_value(value, text, code)
        value.labels = [None] * value.rank


def output_value(val: Any) -> Any:
    """Return an unlabelled Value for a tensor, a list for several, None for what is no tensor."""
    if isinstance(val, torch.Tensor):
        sizes = val.shape
        shape = tuple(concrete(s) for s in sizes)
        return Value(shape, [None] * len(shape), fixed=tuple(not isinstance(s, int) for s in sizes))
    if isinstance(val, (list, tuple)):
        return [output_value(v) for v in val]
    return None


def concrete(size: Any) -> int:
    """Return a size at the traced batch."""
    return size if isinstance(size, int) else int(size.node.hint)
