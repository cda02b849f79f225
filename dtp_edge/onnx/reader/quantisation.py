"""Quantised files of QuantizeLinear and DequantizeLinear pairs, read as the networks that they came from."""

from __future__ import annotations

import copy
import dataclasses

import onnx

from dtp_edge.onnx.reader.source import Source


def dequantised(source: Source) -> Source:
    """Return the source without the pairs that round activations; weights are dequantised when read."""
    graph = source.model.graph
    makers = {o: n for n in graph.node for o in n.output}
    pairs = {
        n.output[0]: makers[n.input[0]].input[0]
        for n in graph.node
        if n.op_type == "DequantizeLinear"
        and n.input[0] in makers
        and makers[n.input[0]].op_type == "QuantizeLinear"
    }
    if not pairs:
        return source
    model = copy.deepcopy(source.model)
    outputs = {o.name for o in model.graph.output}
    nodes = []
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            while name in pairs:
                name = pairs[name]
            node.input[i] = name
        if node.output[0] in pairs:
            if node.output[0] not in outputs:
                continue
            name = pairs[node.output[0]]
            while name in pairs:
                name = pairs[name]
            node = onnx.helper.make_node("Identity", [name], [node.output[0]])
        nodes.append(node)
    read = {name for node in nodes for name in node.input} | outputs
    nodes = [n for n in nodes if n.op_type != "QuantizeLinear" or n.output[0] in read]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    note = (
        f"a quantised file: {len(pairs)} roundings of activations are left out, its weights are dequantised"
    )
    return dataclasses.replace(source, model=model, notes=[*source.notes, note])
