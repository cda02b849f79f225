"""Outputs of bounded functions (probabilities, say), and the same file with these functions in float64.

A runtime's float32 sigmoid is off by some 1e-7 of 1, whatever it returns. An output that is below that
everywhere can be judged by its own scale only if the last function is computed exactly.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper

from dtp_edge.files.sessions import open_session

_BOUNDED = {"Sigmoid", "HardSigmoid", "Softmax", "Tanh"}
_MOVES = {
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Identity",
    "Split",
    "Gather",
    "Resize",
}


def bounded_outputs(model: onnx.ModelProto) -> list[bool]:
    """Return for each output whether a bounded function computed it (what only moves values may follow)."""
    maker = {name: node for node in model.graph.node for name in node.output}
    return [bool(_way(maker, output.name)) for output in model.graph.output]


def _way(maker: dict[str, NodeProto], name: str) -> list[NodeProto]:
    """Return the nodes from a bounded function to the output `name`; [] if it is not made by one."""
    way: list[NodeProto] = []
    node = maker.get(name)
    while node is not None and node.op_type in _MOVES:
        way.append(node)
        node = maker.get(node.input[0])
    return [node, *reversed(way)] if node is not None and node.op_type in _BOUNDED else []


def with_exact_ends(path: Path) -> onnxruntime.InferenceSession | None:
    """Return the file with the last function of its bounded outputs in float64; None if it cannot be run."""
    model = onnx.load(str(path))
    maker = {name: node for node in model.graph.node for name in node.output}
    for number, output in enumerate(list(model.graph.output)):
        way = _way(maker, output.name)
        if not way or output.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        known = f"{output.name}_exact_{number}_0"
        model.graph.node.append(helper.make_node("Cast", [way[0].input[0]], [known], to=TensorProto.DOUBLE))
        was = output.name
        for step, node in enumerate(way, start=1):
            copied = NodeProto()
            copied.CopyFrom(node)
            copied.name = ""
            copied.input[0] = known
            follow = way[step].input[0] if step < len(way) else was
            names = {name: f"{was}_exact_{number}_{step}_{i}" for i, name in enumerate(node.output)}
            copied.output[:] = [names[name] for name in node.output]
            model.graph.node.append(copied)
            known = names[follow]
        output.name = known
        output.type.tensor_type.elem_type = TensorProto.DOUBLE
    try:
        return open_session(model.SerializeToString())
    except Exception:  # an operator without float64, or a message too large: it cannot be told
        return None
