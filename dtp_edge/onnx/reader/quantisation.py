"""Quantised files of QuantizeLinear and DequantizeLinear pairs, read as the networks that they came from."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from dtp_edge.onnx.reader.source_file import Source


def dequantised(source: Source) -> Source:
    """Return the source without the pairs that round activations; weights are dequantised when read.

    A pair whose range begins at 0 has swallowed the Relu (or Relu6) before it: its clipping stays.
    """
    makers = {o: n for n in source.model.graph.node for o in n.output if n.op_type == "QuantizeLinear"}
    pairs = {
        n.output[0]: makers[n.input[0]]
        for n in source.model.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in makers
    }
    if not pairs:
        return source
    model = ModelProto()
    model.CopyFrom(source.model)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        pair = pairs.get(node.output[0])
        nodes += [node] if pair is None else _instead(pair, node.output[0], stored, source.opset, model)
    read = {name for node in nodes for name in node.input} | {o.name for o in model.graph.output}
    del model.graph.node[:]
    model.graph.node.extend(n for n in nodes if n.op_type != "QuantizeLinear" or n.output[0] in read)
    note = f"a quantised file: {len(pairs)} roundings of activations are left out, weights dequantised"
    return dataclasses.replace(source, model=model, notes=[*source.notes, note])


def _instead(
    pair: NodeProto, output: str, stored: dict[str, np.ndarray], opset: int, model: ModelProto
) -> list[NodeProto]:
    """Return what a pair does besides rounding: nothing, or clipping from 0."""
    scale = stored.get(pair.input[1])
    zero = stored.get(pair.input[2]) if len(pair.input) > 2 else np.zeros((), np.uint8)
    plain = [helper.make_node("Identity", [pair.input[0]], [output])]
    if scale is None or zero is None or scale.size != 1 or zero.dtype.kind not in "iu":
        return plain
    limits = np.iinfo(zero.dtype)
    if int(zero.reshape(())) != limits.min:
        return plain
    high = np.float32((int(limits.max) - int(limits.min)) * float(scale.reshape(())))
    if opset < 11:
        return [helper.make_node("Clip", [pair.input[0]], [output], min=0.0, max=float(high))]
    names = [f"{output}_low", f"{output}_high"]
    for name, value in zip(names, (np.float32(0), high), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return [helper.make_node("Clip", [pair.input[0], *names], [output])]
