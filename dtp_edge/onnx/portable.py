"""Exact rewrites of correct ONNX into forms that more runtimes read right.

- **Mean over all positions** (`ReduceMean` over every dimension from the third on) becomes
  `GlobalAveragePool`, with `Flatten` where the dimensions were dropped. pnnx 20261020 turns the mean of
  `[1, C, L]` over L into a Reduction over no axis, and ncnn then reads beyond the end; and ONNX Runtime has
  an int8 kernel for GlobalAveragePool but none for ReduceMean.
- **Every s-th position** (`Slice` with steps along positions, the option-A shortcut of CIFAR ResNets)
  becomes a `MaxPool` of kernel 1 and stride s: the maximum of one value is that value, and both keep
  floor((n - 1)/s) + 1 = ceil(n/s) positions. pnnx leaves such a Slice as an operator that ncnn lacks.
- **A vector looked up by number** (`Gather` with 0, 1, 2, ... in another shape, which torch writes for a mean
  that keeps its dimensions) becomes a `Reshape`; ncnn has no such layer.
- **Chosen channels** (`Gather` along dimension 1, what remains of a channel shuffle after pruning) mostly
  vanish into their readers' weights (see `channel_order`). What is left becomes `Split` and `Concat` where it
  is in few stretches; in many, a `Gather` over `[N, C, H*W]` between two reshapes.
  OpenVINO 2026.4 is wrong on Conv, Gather, Conv (by 0.9 of range) but not behind a reshape, and pnnx takes
  a Gather for the choice of one index. Split and Concat of all channels would suit ncnn too, but cost
  ShuffleNet 38 % of its speed in ONNX Runtime.

A node that does not match exactly stays as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dtp_edge.onnx.channel_order import absorb_orders, runs

FEW = 16  # stretches of channels that are split and joined


def make_portable(model: ModelProto) -> ModelProto:
    """Apply the rewrites in place and return the model; names of inputs and outputs stay."""
    shapes = _shapes(model)
    constants = {i.name: i for i in model.graph.initializer}
    stored = set(constants)
    outputs = {o.name for o in model.graph.output}
    nodes: list[NodeProto] = []
    for node in absorb_orders(model.graph.node, shapes, constants, outputs):
        nodes.extend(_rewritten(node, shapes, constants))
    model.graph.initializer.extend(c for n, c in constants.items() if n not in stored)
    nodes = _merge_strides(nodes, outputs)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unused_constants(model)
    return model


def _rewritten(
    node: NodeProto, shapes: dict[str, list[int | None]], constants: dict[str, TensorProto]
) -> Sequence[NodeProto]:
    shape = shapes.get(node.input[0]) if node.input else None
    if shape is not None and len(shape) == 1 and node.op_type == "Gather":
        return _numbered(node, shape, constants) or [node]
    if shape is None or len(shape) not in (3, 4, 5):
        return [node]
    if node.op_type == "ReduceMean":
        return _pooled_mean(node, len(shape), constants) or [node]
    if node.op_type == "Gather":
        return _chosen_channels(node, shape, constants) or [node]
    if node.op_type == "Slice":
        return _strided_pool(node, shape, constants) or [node]
    return [node]


def _numbered(node: NodeProto, shape: list[int | None], constants: dict[str, TensorProto]) -> list[NodeProto]:
    index = constants.get(node.input[1])
    if index is None or len(index.dims) < 2:
        return []
    if numpy_helper.to_array(index).reshape(-1).tolist() != list(range(shape[0] or 0)):
        return []
    size = _constant(f"{node.output[0]}_shape", list(index.dims), constants)
    return [helper.make_node("Reshape", [node.input[0], size], [node.output[0]], name=node.name)]


def _pooled_mean(node: NodeProto, rank: int, constants: dict[str, TensorProto]) -> list[NodeProto]:
    axes = _ints(node.input[1], constants) if len(node.input) > 1 else None
    keep = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
    if axes is None or sorted(a % rank for a in axes) != list(range(2, rank)):
        return []
    if rank == 3 and keep:
        return []  # the mean inside a hand-written layer norm over `[batch, tokens, features]`
    if keep:
        return [helper.make_node("GlobalAveragePool", [node.input[0]], [node.output[0]], name=node.name)]
    pooled = f"{node.output[0]}_pooled"
    return [
        helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name),
        helper.make_node("Flatten", [pooled], [node.output[0]], name=f"{node.name}_flatten", axis=1),
    ]


def _chosen_channels(
    node: NodeProto, shape: list[int | None], constants: dict[str, TensorProto]
) -> list[NodeProto]:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    chosen, total = _ints(node.input[1], constants), shape[1]
    if axis % len(shape) != 1 or chosen is None or total is None or len(constants[node.input[1]].dims) != 1:
        return []
    stretches = runs([i % total for i in chosen])
    cuts = sorted({0, total, *(edge for run in stretches for edge in run)})
    if max(len(stretches), len(cuts) - 1) <= FEW:
        return _split_channels(node, stretches, cuts, constants)
    return _flat_gather(node, shape, len(chosen), constants)


def _split_channels(
    node: NodeProto, stretches: list[tuple[int, int]], cuts: list[int], constants: dict[str, TensorProto]
) -> list[NodeProto]:
    target = node.output[0]
    if len(cuts) == 2:
        return [
            helper.make_node("Concat", [node.input[0]] * len(stretches), [target], name=node.name, axis=1)
        ]
    pieces = {start: f"{target}_from_{start}" for start in cuts[:-1]}
    sizes = _constant(f"{target}_sizes", [b - a for a, b in itertools.pairwise(cuts)], constants)
    wanted = [pieces[c] for start, stop in stretches for c in cuts if start <= c < stop]
    split = helper.make_node("Split", [node.input[0], sizes], list(pieces.values()), axis=1)
    return [split, helper.make_node("Concat", wanted, [target], name=node.name, axis=1)]


def _flat_gather(
    node: NodeProto, shape: list[int | None], count: int, constants: dict[str, TensorProto]
) -> list[NodeProto]:
    places = [size for size in shape[2:] if size is not None]
    if len(shape) == 3 or len(places) != len(shape) - 2:
        return []
    source, target = node.input[0], node.output[0]
    flat = _constant(f"{target}_flat_shape", [0, 0, -1], constants)  # 0: as it is
    whole = _constant(f"{target}_whole_shape", [0, count, *places], constants)
    return [
        helper.make_node("Reshape", [source, flat], [f"{target}_flat"]),
        helper.make_node(
            "Gather", [f"{target}_flat", node.input[1]], [f"{target}_chosen"], name=node.name, axis=1
        ),
        helper.make_node("Reshape", [f"{target}_chosen", whole], [target]),
    ]


def _constant(name: str, values: list[int], constants: dict[str, TensorProto]) -> str:
    constants[name] = numpy_helper.from_array(np.array(values, dtype=np.int64), name)
    return name


def _strided_pool(
    node: NodeProto, shape: list[int | None], constants: dict[str, TensorProto]
) -> list[NodeProto]:
    if len(node.input) < 5:
        return []
    starts, ends, axes, steps = (_ints(name, constants) for name in node.input[1:5])
    if starts is None or ends is None or axes is None or steps is None:
        return []
    strides = [1] * (len(shape) - 2)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis % len(shape)]
        if size is None or start != 0 or end < size or step < 1:
            return []
        if axis % len(shape) < 2:
            if step != 1:
                return []
            continue
        strides[axis % len(shape) - 2] = step
    if max(strides) == 1:
        return []
    return [_pool(node.input[0], node.output[0], node.name, strides)]


def _pool(source: str, target: str, name: str, strides: list[int]) -> NodeProto:
    kernel = [1] * len(strides)
    return helper.make_node("MaxPool", [source], [target], name=name, kernel_shape=kernel, strides=strides)


def _merge_strides(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Join two 1x1 max pools in a row (a slice of rows, then of columns) into one."""
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    merged: dict[str, NodeProto] = {}  # by output name
    result: list[NodeProto] = []
    for node in nodes:
        before = merged.get(node.input[0]) if node.input and _is_stride(node) else None
        if before is not None and readers[node.input[0]] == 1 and node.input[0] not in outputs:
            strides = [a * b for a, b in zip(_strides(before), _strides(node), strict=True)]
            node = _pool(before.input[0], node.output[0], node.name, strides)
            result.remove(before)
        if _is_stride(node):
            merged[node.output[0]] = node
        result.append(node)
    return result


def _is_stride(node: NodeProto) -> bool:
    return node.op_type == "MaxPool" and all(
        a.name == "strides" or (a.name == "kernel_shape" and set(a.ints) == {1}) for a in node.attribute
    )


def _strides(node: NodeProto) -> list[int]:
    return next(list(a.ints) for a in node.attribute if a.name == "strides")


def _shapes(model: ModelProto) -> dict[str, list[int | None]]:
    """Return the shapes of float tensors by name; None for an open dimension."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # a model above 2 GiB cannot be passed: what the file itself says must do
        graph = model.graph
    shapes: dict[str, list[int | None]] = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT and kind.HasField("shape"):
            shapes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    return shapes


def _ints(name: str, constants: dict[str, TensorProto]) -> list[int] | None:
    if name not in constants or len(constants[name].dims) > 1:
        return None
    return [int(v) for v in np.atleast_1d(numpy_helper.to_array(constants[name]))]


def _drop_unused_constants(model: ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    used |= {n for node in model.graph.node for a in node.attribute for s in _graphs(a) for n in _inputs(s)}
    kept = [i for i in model.graph.initializer if i.name in used]
    infos = [v for v in model.graph.value_info if v.name in {o for n in model.graph.node for o in n.output}]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)


def _graphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []


def _inputs(graph: onnx.GraphProto) -> list[str]:
    names = [name for node in graph.node for name in node.input]
    inner = [g for node in graph.node for a in node.attribute for g in _graphs(a)]
    return names + [name for g in inner for name in _inputs(g)]
