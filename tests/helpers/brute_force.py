"""Label rules against brute force: run the operator, perturb one index, see which outputs move.

A rule claims that an input index and an output index carry the same atoms, or none. So whenever
changing input index i of a labelled dimension moves output index j of a labelled dimension, either row
j shares the atom of row i (or holds all of them), or the rule has asked for a mask there, or index i
is frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtp_edge.graph.engine import apply_rule, output_value
from dtp_edge.ops.refusal import Code
from dtp_edge.ops.values import Context, Value

aten = torch.ops.aten
Case = tuple[Callable[..., Any], list[Any], dict[str, Any]]
RECURRENT = (
    aten.lstm,
    aten.gru,
    aten.rnn_tanh,
    aten.rnn_relu,
    aten.lstm_cell,
    aten.gru_cell,
    aten.rnn_tanh_cell,
    aten.rnn_relu_cell,
)
UNKNOWN = {Code.NO_RULE, Code.NOT_COVERED, Code.FAULT}


def label(case: Case) -> tuple[Context, list[list[Any]], Any, list[Tensor]]:
    """Run the rule of an operator; every floating input is an activation with fresh atoms everywhere."""
    function, args, kwargs = case
    graph = torch.fx.Graph()
    inputs: list[Tensor] = []
    nodes = []

    def place(value: Any) -> Any:
        if isinstance(value, Tensor):
            node = graph.placeholder(f"x{len(nodes)}")
            node.meta["val"] = value
            nodes.append(node)
            inputs.append(value)
            return node
        return [place(v) for v in value] if isinstance(value, list) else value

    data = [place(a) for a in args[:2]]
    count = len(nodes)
    node = graph.call_function(function, (*data, *(place(a) for a in args[2:])), kwargs)
    weights = nodes[count:]
    ctx = Context(graph_module=None, node=node)
    for source, value in zip(nodes, inputs, strict=True):
        held = Value(tuple(value.shape), [None] * value.dim())
        if value.is_floating_point():
            held.labels = [ctx.fresh(n, "channels") for n in value.shape]
        if function.overloadpacket in RECURRENT and source in weights:
            held.source = str(source)  # their weights are parameters, nothing else
        ctx.values[source] = held
    given = [list(ctx.values[n].labels) for n in nodes]
    output = output_value(function(*args, **kwargs))
    apply_rule(ctx, node, output)
    return ctx, given, output, inputs


def flat(outputs: Any) -> list[Any]:
    return [p for o in outputs for p in flat(o)] if isinstance(outputs, (list, tuple)) else [outputs]


def unknown(ctx: Context) -> list[str]:
    """Return the refusals that say that the rule covers this use in no way."""
    return [str(r) for r in ctx.atoms.frozen()[1] if r.code in UNKNOWN]


def uncovered(case: Case) -> list[str]:
    """Return where an index moves outputs that its labels do not cover, one text a place."""
    ctx, given, output, inputs = label(case)
    why, _ = ctx.atoms.frozen()
    masked = {int(leaf) for site in ctx.sites for leaf in np.unique(ctx.atoms.expand(site.rows)) if leaf >= 0}
    function, args, kwargs = case
    before = flat(function(*args, **kwargs))
    found = []
    for value, held in zip(inputs, given, strict=True):
        if not value.is_floating_point():
            continue
        for dim in range(value.dim()):
            rows = ctx.atoms.expand(held[dim])
            for index in range(value.shape[dim]):
                atoms = {int(r) for r in rows[index] if r >= 0 and why[r] < 0}
                if not atoms or atoms & masked:
                    continue
                kept = value.clone()
                value.select(dim, index).add_(torch.rand_like(value.select(dim, index)) + 0.5)
                after = flat(function(*args, **kwargs))
                value.copy_(kept)
                for old, new, labels in zip(before, after, flat(output), strict=True):
                    if isinstance(labels, Value) and not _covered(ctx, old != new, labels, atoms):
                        found.append(f"{function} input {dim}[{index}]")
    return found


def _covered(ctx: Context, moved: Tensor, labels: Value, atoms: set[int]) -> bool:
    """Return whether some dimension of the output carries an atom of the index wherever it moved."""
    places = torch.nonzero(moved).numpy()
    covered = np.zeros(len(places), dtype=bool)
    for dim in range(labels.rank):
        rows = labels.labels[dim]
        if isinstance(rows, np.ndarray):
            hit = np.isin(ctx.atoms.expand(rows), list(atoms)).any(axis=1)
            covered |= hit[places[:, dim]]
    return bool(covered.all())
