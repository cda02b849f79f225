"""Weights stored in 16 bits, as the source file stores them, where that loses nothing.

The network computes in float32; each such weight is widened where it is read, which a runtime does once, when
it loads the file. A weight that changed (by training, or when a norm was folded into it) keeps its 32 bits.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

_FEWEST = 16  # values: less is not worth a node


def stores_half(model: ModelProto) -> bool:
    """Return whether a file keeps weights in float16."""
    return any(
        t.data_type == TensorProto.FLOAT16 and np.prod(t.dims) >= _FEWEST for t in model.graph.initializer
    )


def stored_in_half(model: ModelProto) -> ModelProto:
    """Store every float32 weight that float16 holds exactly in float16, in place."""
    graph = model.graph
    taken = {n for node in graph.node for n in (*node.input, *node.output)} | {
        t.name for t in graph.initializer
    }
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _FEWEST:
            continue
        wide = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float16)
        if not np.array_equal(narrow.astype(np.float32), wide):
            continue
        name, widened = f"{tensor.name}_float16", tensor.name
        while name in taken:
            name += "_"
        taken.add(name)
        tensor.CopyFrom(numpy_helper.from_array(narrow, name))
        casts.append(helper.make_node("Cast", [name], [widened], to=TensorProto.FLOAT))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *rest])
    return model
