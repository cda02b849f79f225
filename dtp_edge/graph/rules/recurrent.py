"""Recurrent layers: one hidden width for all layers and directions, shared by every gate."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.graph.labels import Rows
from dtp_edge.graph.registry import Arguments, rule
from dtp_edge.graph.values import Context, Value, concatenate

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(ctx: Context, a: Arguments, out: Any) -> None:
    """ATen keeps the hidden states of all layers in one tensor, so all layers have one width."""
    gates = GATES[ctx.op]
    x = ctx.value(a["input"])
    states = [ctx.value(n) for n in (a["hx"] if isinstance(a["hx"], (list, tuple)) else [a["hx"]])]
    weights = [ctx.value(n) for n in a["params"]]
    directions = 2 if a["bidirectional"] else 1
    each = len(weights) // (int(a["num_layers"]) * directions)
    assert each in (2, 4)  # weights and maybe biases, no projection
    assert len(weights) == each * int(a["num_layers"]) * directions
    hidden = ctx.read(weights[1], 1)
    for state in states:
        ctx.bind(state, state.rank - 1, hidden)
        for dim in range(state.rank - 1):
            ctx.freeze(ctx.read(state, dim), "the first states of a recurrent layer, one a layer and sample")
    for dim in range(x.rank - 1):
        ctx.freeze(ctx.read(x, dim), "a recurrent layer runs over it")
    below = ctx.read(x, x.rank - 1)
    for start in range(0, len(weights), each * directions):
        for k in range(start, start + each * directions, each):
            _one_cell(ctx, weights[k : k + each], below, hidden, gates)
        below = concatenate([(hidden, states[0].shape[-1])] * directions)
    out[0].labels[-1] = below
    for value in out[1:]:
        value.labels[-1] = hidden


def _one_cell(
    ctx: Context, weights: list[Value], below: Rows | None, hidden: Rows | None, gates: int
) -> None:
    rows = None if hidden is None else np.tile(hidden, (gates, 1))
    for weight in weights:
        ctx.bind(weight, 0, rows)
    ctx.bind(weights[0], 1, below)
    ctx.bind(weights[1], 1, hidden)
    for weight in weights[:2]:
        assert weight.source is not None
        ctx.contract(weight, 1, -1)
