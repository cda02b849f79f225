"""Recurrent layers in a stored graph: PyTorch takes their lists of tensors at their word and reads beyond
them, so every shape is checked before one is called, even on shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
_MOST_STEPS, _MOST_LAYERS = 20_000, 100


def recurrent_fault(name: str, given: Mapping[str, Any]) -> str | None:
    """Return what does not fit in a call of `aten.lstm.input` and its like, by the names of its schema."""
    x, params, layers = given["input"], given["params"], given["num_layers"]
    states = list(given["hx"]) if name == "lstm" else [given["hx"]]
    tensors = [x, *states, *params]
    if not all(isinstance(t, Tensor) and t.dtype == x.dtype and t.is_floating_point() for t in tensors):
        return "has tensors of several types"
    if x.ndim != 3 or max(x.shape[:2]) > _MOST_STEPS:
        return f"has an input of {list(x.shape)}, not [steps, batch, features] of at most {_MOST_STEPS} steps"
    if not 1 <= layers <= _MOST_LAYERS or len(states) != (2 if name == "lstm" else 1):
        return f"has {layers} layers and {len(states)} states"
    directions, batch = 1 + bool(given["bidirectional"]), x.shape[0 if given["batch_first"] else 1]
    hidden = states[-1].shape[-1] if states[-1].ndim == 3 else -1
    out = states[0].shape[-1] if states[0].ndim == 3 else -1
    wanted = [(layers * directions, batch, width) for width in dict.fromkeys((out, hidden))]
    if [tuple(s.shape) for s in states] not in ([wanted[0], wanted[-1]], [wanted[0]]):
        return f"has states of {[list(s.shape) for s in states]}, not {[list(w) for w in wanted]}"
    rows = GATES[name] * hidden
    shapes: list[tuple[int, ...]] = []
    for layer in range(layers):
        width = x.shape[2] if layer == 0 else out * directions
        one = [(rows, width), (rows, out), *([(rows,), (rows,)] if given["has_biases"] else [])]
        shapes += (one + ([(out, hidden)] if out != hidden else [])) * directions
    if [tuple(p.shape) for p in params] != shapes:
        return f"has {len(params)} parameters of {len(shapes)}, or some of another shape"
    return None
