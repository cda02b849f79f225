"""LSTM, GRU and plain recurrent layers, as torch's own where their equations agree."""

from __future__ import annotations

import torch

from dtp_edge.onnx.reader.registry import Context, op
from dtp_edge.onnx.reader.values import Made, Value

_ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}  # torch's gates in ONNX's order
_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
_RELU = ["relu"]
MAX_STEPS = 128  # of a layer that torch does not have and that is written out step by step


@op("LSTM", "GRU", "RNN")
def recurrent(c: Context) -> Made:
    kind, hidden = c.type, c.shape(2)[-1]
    if int(c.get("hidden_size", hidden)) != hidden:
        raise c.refuse(f"says {c.get('hidden_size', 0)} hidden values, its weights have {hidden}")
    direction = c.get("direction", "forward")
    both = direction == "bidirectional"
    functions = _functions(c, 2 if both else 1)
    batch_first = c.flag("layout")
    x = c.call(torch.transpose, c.value(0), 0, 1) if batch_first else c.value(0)
    _whole_sequences(c, x)
    states = [_state(c, x, i, hidden, batch_first) for i in ((5, 6) if kind == "LSTM" else (5,))]
    layers = [_cell(c, d, hidden) for d in range(2 if both else 1)]
    if direction == "reverse":
        x = c.call(torch.flip, x, [0])
    if kind == "GRU" and not c.flag("linear_before_reset"):
        if both or x.shape[0] > MAX_STEPS:
            raise c.refuse(
                "resets before it multiplies (linear_before_reset = 0), in both directions or over many steps"
            )
        first = c.call(torch.select, states[0], 0, 0)
        made = c.call(_reset_first, x, first, *layers[0])
    else:
        made = _layer(c, functions, x, states, [w for layer in layers for w in layer], both)
    y, *last = made  # type: ignore[misc]
    if direction == "reverse":
        y = c.call(torch.flip, y, [0])
    y = c.call(torch.permute, c.call(torch.unflatten, y, 2, [2 if both else 1, hidden]), [0, 2, 1, 3])
    if batch_first:
        y = c.call(torch.permute, y, [2, 0, 1, 3])
        last = [c.call(torch.transpose, h, 0, 1) for h in last]
    return (y, *last)


def _functions(c: Context, directions: int) -> list[str]:
    named = [a.decode().lower() for a in c.get("activations", [])] or _USUAL[c.type] * directions
    one = named[: len(named) // directions]
    known = one == _USUAL[c.type] or (c.type == "RNN" and one == _RELU)
    if not known or one * directions != named:
        raise c.refuse(f"uses the functions {named}, which torch's does not")
    return one


def _whole_sequences(c: Context, x: Value) -> None:
    if c.has(4) and (c.constant(4) != x.shape[0]).any():
        raise c.refuse("reads sequences of different lengths")


def _state(c: Context, x: Value, index: int, hidden: int, batch_first: bool) -> Value:
    """The first state [directions, batch, hidden]; a stored one of batch 1 follows the batch of the input."""
    directions, batch = c.shape(1)[0], c.builder.size(x, 1)
    if not c.has(index):
        return c.call(torch.zeros, [directions, batch, hidden], dtype=x.dtype)
    state = c.value(index)
    state = c.call(torch.transpose, state, 0, 1) if batch_first else state
    if state.constant and not state.sample.any():
        return c.call(torch.zeros, [directions, batch, hidden], dtype=x.dtype)
    # Expanded in any case: torch writes where it must not where a state has another batch than the input.
    return c.call(torch.Tensor.expand, state, [-1, batch, -1])


def _cell(c: Context, direction: int, hidden: int) -> list[Value]:
    """Weights and biases of one direction, gates in torch's order."""
    order = [row for gate in _ORDER[c.type] for row in range(gate * hidden, (gate + 1) * hidden)]
    weights = [_rows(c, c.value(i), direction, order) for i in (1, 2)]
    if not c.has(3):
        return weights
    half = len(_ORDER[c.type]) * hidden
    bias = c.value(3)
    return [*weights, *(_rows(c, bias, direction, [row + start for row in order]) for start in (0, half))]


def _rows(c: Context, value: Value, direction: int, rows: list[int]) -> Value:
    if not value.constant:
        raise c.refuse("computes its weights at run time")
    return Value(value.sample[direction][rows], value.name, None, True, value.weight, True)


def _layer(
    c: Context, functions: list[str], x: Value, states: list[Value], weights: list[Value], both: bool
) -> Made:
    options = (c.has(3), 1, 0.0, False, both, False)
    if c.type == "LSTM":
        return c.call(torch.lstm, x, states, weights, *options)  # type: ignore[return-value]
    if c.type == "GRU":
        return c.call(torch.gru, x, states[0], weights, *options)  # type: ignore[return-value]
    function = torch.rnn_tanh if functions != _RELU else torch.rnn_relu
    return c.call(function, x, states[0], weights, *options)  # type: ignore[return-value]


def _reset_first(
    x: torch.Tensor, h: torch.Tensor, w: torch.Tensor, r: torch.Tensor, wb: torch.Tensor, rb: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A GRU whose reset gate acts on the state before it is multiplied, one step after the other."""
    size = h.shape[-1]
    read = torch.nn.functional.linear(x, w, wb + rb)
    gates, new = r[: 2 * size], r[2 * size :]
    steps = []
    for step in read.unbind(0):
        reset, update = torch.sigmoid(step[:, : 2 * size] + h @ gates.t()).chunk(2, 1)
        candidate = torch.tanh(step[:, 2 * size :] + (reset * h) @ new.t())
        h = candidate + update * (h - candidate)
        steps.append(h)
    return torch.stack(steps), h.unsqueeze(0)
