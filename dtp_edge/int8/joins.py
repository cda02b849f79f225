"""Joins at a network's end that one scale would spoil: boxes in pixels beside scores in 0..1.

A quantised `Concat` has one scale for all that it joins. Where the parts go on to an output, through nothing
but operators that move values, and differ much in size, the small ones would be left with a few of the 256
steps. Such a join stays in float, and what follows it: each part keeps the scale that it was made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from dtp_edge.files.sessions import open_session
from dtp_edge.int8.operators import SHAPE_OPS
from dtp_edge.onnx.session import Batch

__all__ = ["unlike_joins"]

UNLIKE = 16.0  # times as large as the smallest part: that is left with 16 steps at most
_MOVES = frozenset((*SHAPE_OPS, "Concat"))


def unlike_joins(path: Path, batches: Sequence[Batch]) -> frozenset[str]:
    """Name the joins, and the nodes behind them, that stay in float for what these batches show."""
    model = onnx.load(str(path))
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    computed = {name for node in model.graph.node for name in node.output}
    ends: dict[int, list[onnx.NodeProto]] = {}
    joins = [node for node in model.graph.node if node.op_type == "Concat"]
    for i, node in enumerate(joins):
        behind = _behind(node, readers)
        if all(n.op_type in _MOVES for n in behind) and len([x for x in node.input if x in computed]) > 1:
            ends[i] = behind
    if not ends:
        return frozenset()
    parts = list(dict.fromkeys(x for i in ends for x in joins[i].input if x in computed))
    sizes = _sizes(model, parts, batches)
    found: set[str] = set()
    for i, behind in ends.items():
        values = [sizes[x] for x in joins[i].input if sizes.get(x, 0.0) > 0]
        if values and max(values) > UNLIKE * min(values):
            found |= {joins[i].name, *(n.name for n in behind)}
    return frozenset(found)


def _behind(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]]) -> list[onnx.NodeProto]:
    """Return all that a node's values reach."""
    found: dict[str, onnx.NodeProto] = {}
    todo = list(node.output)
    while todo:
        for reader in readers.get(todo.pop(), ()):
            if reader.name not in found:
                found[reader.name] = reader
                todo += reader.output
    return list(found.values())


def _sizes(model: onnx.ModelProto, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, float]:
    """Return the largest magnitude of each of these values over the batches; floats alone."""
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    floats = [n for n in names if types.get(n, onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT]
    have = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in floats if name not in have)
    session = open_session(model.SerializeToString())
    sizes = dict.fromkeys(floats, 0.0)
    for batch in batches:
        for name, value in zip(floats, session.run(floats, batch), strict=True):
            sizes[name] = max(sizes[name], float(np.abs(np.asarray(value)).max(initial=0.0)))
    return sizes
