"""Recurrent layers: one hidden width for all layers and directions, shared by every gate."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtp_edge.ops.labels import Rows
from dtp_edge.ops.refusal import NotCovered
from dtp_edge.ops.spec import Example, Spec, T, Work, example, register
from dtp_edge.ops.values import Arguments, Context, Value, concatenate, values_of

CELLS = {"lstm_cell": 4, "gru_cell": 3, "rnn_tanh_cell": 1, "rnn_relu_cell": 1}
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def recurrent(ctx: Context, a: Arguments, out: Any) -> None:
    """ATen keeps the hidden states of all layers in one tensor, so all layers have one width."""
    gates = GATES[ctx.op]
    x = ctx.value(a["input"])
    states = [ctx.value(n) for n in (a["hx"] if isinstance(a["hx"], (list, tuple)) else [a["hx"]])]
    weights = [ctx.value(n) for n in a["params"]]
    directions = 2 if a["bidirectional"] else 1
    cells = ctx.number(a.get("num_layers"), "it counts the layers of a recurrent network") * directions
    each = len(weights) // cells
    if each not in (2, 4) or len(weights) != each * cells:
        raise NotCovered(f"{ctx.op} with a projection")
    if any(w.source is None for k in range(0, len(weights), each) for w in weights[k : k + 2]):
        raise NotCovered(f"{ctx.op} with weights that are computed")
    hidden = ctx.read(weights[1], 1)
    for state in states:
        ctx.bind(state, state.rank - 1, hidden)
        for dim in range(state.rank - 1):
            ctx.freeze(
                ctx.read(state, dim),
                "it counts the states of a recurrent layer",
            )
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
        ctx.contract(weight, 1, -1)


def cell(ctx: Context, a: Arguments, out: Any) -> None:
    """One step of a recurrent layer, run by Python code: as the layer, one hidden width for all steps."""
    x = ctx.value(a["input"])
    states = [ctx.value(n) for n in (a["hx"] if isinstance(a["hx"], (list, tuple)) else [a["hx"]])]
    weights = [ctx.value(a[n]) for n in ("w_ih", "w_hh", "b_ih", "b_hh") if a.get(n) is not None]
    if any(w.source is None for w in weights[:2]):
        raise NotCovered(f"{ctx.op} with weights that are computed")
    hidden = ctx.read(weights[1], 1)
    for value in (x, *states):
        for dim in range(value.rank - 1):
            ctx.freeze(value.labels[dim], "the recurrent cell takes it as the batch dimension")
    for state in states:
        ctx.bind(state, state.rank - 1, hidden)
    _one_cell(ctx, weights, ctx.read(x, x.rank - 1), hidden, CELLS[ctx.op])
    for value in values_of(out):
        value.labels[-1] = hidden


def macs(work: Work) -> list[list[tuple[Any, str]]]:
    """sum prod(2-D weights) * time steps."""
    steps = [(d, "") for d in work.inputs[0][:-1]]
    return [[*((d, "") for d in matrix), *steps] for matrix in work.inputs[1:] if len(matrix) == 2]


def _example(gates: int, states: int) -> Example:
    state = T((2, 2, 3))
    weights = [
        T(shape, "parameter")
        for width in (5, 3)
        for shape in ((gates * 3, width), (gates * 3, 3), (gates * 3,), (gates * 3,))
    ]
    first: Any = [state] * states if states > 1 else state
    return example(T((2, 4, 5)), first, weights, True, 2, 0.0, False, False, True)


for _name, _gates in GATES.items():
    register(
        Spec(
            names=(_name,),
            label=recurrent,
            kernel="recurrent",
            macs=macs,
            training_flag="train",
            examples=(_example(_gates, 2 if _name == "lstm" else 1),),
        )
    )
for _name, _gates in CELLS.items():
    _hidden = T((2, 3))
    _params = (T((_gates * 3, 5), "parameter"), T((_gates * 3, 3), "parameter"))
    _biases = (T((_gates * 3,), "parameter"), T((_gates * 3,), "parameter"))
    _first = [_hidden, _hidden] if _name == "lstm_cell" else _hidden
    register(
        Spec(
            names=(_name,),
            label=cell,
            kernel="recurrent",
            macs=macs,
            examples=(
                example(T((2, 5)), _first, *_params, *_biases),
                example(T((2, 5)), _first, *_params),
            ),
        )
    )
