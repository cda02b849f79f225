"""Activations that a file spells out: every runtime runs `x * sigmoid(x)` as one SiLU, and GELU's five
operators as one GELU.

A network that was read from ONNX has the operators, one from torch the activation; both cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from dtp_edge.graph.layers import Layer, LayerGraph

_GELU = ("erf", "add", "mul", "mul")  # after x / sqrt(2); one product is with x, the other with a half
_SCALES = ("div", "mul")
Readers = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class SpelledOut:
    """The activation `op` of tensor `source`, written as these layers, by their place in the graph."""

    op: str
    source: str
    layers: tuple[int, ...]


def spelled_out(
    graph: LayerGraph, readers: Readers, fixed: AbstractSet[str], op_of: Callable[[Layer], str]
) -> dict[int, SpelledOut]:
    """Return what is spelled out, by the place of its first layer; `fixed` are no activations."""
    found, ops = {}, [op_of(layer) for layer in graph.layers]
    for place, layer in enumerate(graph.layers):
        one = _silu(place, graph, ops, readers) or _gelu(place, graph, ops, readers, fixed)
        if one is not None and one.source not in fixed and layer.outputs[0] not in graph.outputs:
            found[place] = one
    return found


def _silu(place: int, graph: LayerGraph, ops: Sequence[str], readers: Readers) -> SpelledOut | None:
    layer = graph.layers[place]
    after = readers.get(layer.outputs[0], []) if ops[place] == "sigmoid" and layer.outputs else []
    if len(after) != 1:
        return None
    product = graph.layers[after[0]]
    pair = (layer.inputs[0], layer.outputs[0])
    whole = ops[after[0]] == "mul" and sorted(product.inputs) == sorted(pair)
    return SpelledOut("silu", layer.inputs[0], (place, after[0])) if whole else None


def _gelu(
    place: int, graph: LayerGraph, ops: Sequence[str], readers: Readers, fixed: AbstractSet[str]
) -> SpelledOut | None:
    layer = graph.layers[place]
    if ops[place] not in _SCALES or not layer.inputs or not layer.outputs:
        return None
    source, chain, halves = layer.inputs[0], [place], 0
    for wanted in _GELU:
        last = graph.layers[chain[-1]].outputs[0]
        after = readers.get(last, [])
        if len(after) != 1 or last in graph.outputs or ops[after[0]] != wanted:
            return None
        others = [n for n in graph.layers[after[0]].inputs if n != last and n not in fixed]
        if others not in ([], [source]):
            return None
        halves += others == [source]
        chain.append(after[0])
    return SpelledOut("gelu", source, tuple(chain)) if halves == 1 else None
