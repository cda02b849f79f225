"""The table from ATen operators to the rules that label them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from dtp_edge.graph.values import Context, Value, op_name

Arguments = dict[str, Any]
Rule = Callable[[Context, Arguments, Any], Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for ATen names without overload; in-place variants (`relu_`) share it.

    A rule takes the context, the arguments by the names of the operator's schema (fx nodes are still
    nodes), and the output: a `Value` whose labels are all None for it to fill in, or a list of them.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def arguments_of(node: fx.Node) -> Arguments:
    """Return the node's arguments by name, defaults filled in."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {**{str(i): a for i, a in enumerate(node.args)}, **node.kwargs}
    found = dict(_defaults(node.target))
    found.update(zip(found, node.args, strict=False))
    found.update(node.kwargs)
    return found


@functools.cache
def _defaults(target: torch._ops.OpOverload) -> Arguments:
    """Return the parameters of an operator in order, with their defaults (None where there is none)."""
    return {a.name: a.default_value if a.has_default_value() else None for a in target._schema.arguments}


def apply_rule(ctx: Context, node: fx.Node, output: Any) -> None:
    """Label the output of a node, or freeze what reaches an operator without a rule.

    A rule that raises has met a case that it was not written for: its inputs and output are frozen.
    """
    name = op_name(node)
    function = RULES.get(name) or RULES.get(name.removesuffix("_"))
    if function is None:
        _freeze_all(ctx, node, output, f"no rule for the operator {name}")
        return
    try:
        function(ctx, arguments_of(node), output)
        _fits(output)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        _freeze_all(
            ctx, node, output, f"the rule for {name} does not cover this use ({type(error).__name__})"
        )


def _fits(output: Any) -> None:
    """Check that every label array has one row an index."""
    for value in output if isinstance(output, list) else [output]:
        if isinstance(value, Value):
            if len(value.labels) != value.rank:
                raise ValueError("labels for another number of dimensions")
            for size, rows in zip(value.shape, value.labels, strict=True):
                if isinstance(rows, np.ndarray) and len(rows) != size:
                    raise ValueError("labels for another size")


def _freeze_all(ctx: Context, node: fx.Node, output: Any, reason: str) -> None:
    for source in node.all_input_nodes:
        ctx.freeze_value(ctx.values.get(source), reason)
    for value in output if isinstance(output, list) else [output]:
        if isinstance(value, Value):
            ctx.freeze_value(value, reason)
            value.labels = [None] * value.rank
