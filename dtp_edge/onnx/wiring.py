"""Who makes and who reads each tensor of an ONNX graph."""

from __future__ import annotations

from onnx import GraphProto, NodeProto


def makers(graph: GraphProto) -> dict[str, NodeProto]:
    """Return the node that makes each tensor; inputs and constants have none."""
    return {name: node for node in graph.node for name in node.output}


def readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Return the nodes that read each tensor, in their order; one that reads it twice stands there twice."""
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found
