"""Which operators are quantised, and the last touches that make an int8 file that every reader accepts."""

from __future__ import annotations

from pathlib import Path

import onnx

from dtp_edge.int8.scales import share_scales
from dtp_edge.onnx.wiring import makers, readers

MAX_IR = 10  # ONNX Runtime, OpenVINO, tract, ncnn, TVM and IREE all read IR 10

# Norms, softmax, Where and index operators stay in float: few runtimes have int8 kernels for them, and
# they cost accuracy for little time. Shape operators are quantised only to carry int8 values through.
_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat")
_ACTIVATION = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool")
_SHAPE = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Split", "Slice", "Pad", "Resize")
QUANTIZED_OPS = frozenset((*_COMPUTE, *_ACTIVATION, *_SHAPE))


def finish_model(
    raw: Path, fp32_path: Path, method: str, *, float_nodes: frozenset[str], rounded: onnx.ModelProto | None
) -> Path:
    """Rewrite the quantiser's file: checked, deterministic, with the fp32 file's metadata, names and IR.

    `float_nodes` names the nodes that were not quantised; `rounded` is the model that was, where its weights
    are to be rounded to scales that give the same bits everywhere.
    """
    model = onnx.load(str(raw))
    leave_float_to_float(model, float_nodes)
    if rounded is not None:
        share_scales(model, rounded)
    source = onnx.load(str(fp32_path), load_external_data=False)
    model.ir_version = min(source.ir_version, MAX_IR)
    used = {node.domain for node in model.graph.node}
    opsets = {o.domain: o.version for o in model.opset_import if o.domain in used}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    props = {p.key: p.value for p in source.metadata_props}
    props |= {"dtp_edge.precision": "int8", "dtp_edge.calibration": method}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(props.items())))
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    model.graph.name = source.graph.name
    onnx.checker.check_model(model, full_check=True)
    raw.write_bytes(model.SerializeToString(deterministic=True))
    return raw


def gelu_nodes(model: onnx.ModelProto) -> frozenset[str]:
    """Name the sums and products of every GELU, which stay in float.

    `1 + erf` in 256 steps over [-1, 1] puts the one in the middle between two steps of the sum, so runtimes
    round either way (25 % of values in ConvNeXt); and ONNX Runtime has one kernel for a whole float GELU.
    """
    read_by, producer = readers(model.graph), makers(model.graph)
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "Erf":
            continue
        before = producer.get(node.input[0])
        if before is not None and before.op_type == "Mul":
            found.add(before.name)
        found.add(node.name)
        for _ in range(3):  # the sum with one, the product with x, the halving
            after = read_by.get(node.output[0], [])
            if len(after) != 1 or after[0].op_type not in ("Add", "Mul"):
                break
            (node,) = after
            found.add(node.name)
    return frozenset(found - {""})


def leave_float_to_float(model: onnx.ModelProto, float_nodes: frozenset[str] = frozenset()) -> int:
    """Take away, in place, the rounding of tensors that only float operators read; return how many.

    The quantiser rounds every output of an operator that it knows. Before Softmax or a norm, which compute in
    float, that costs accuracy for nothing; tract 0.23.9 is then wrong on Softmax (by half its range), and
    OpenVINO 2026.4 crashes on a Concat that a batch norm reads. Convolutions keep theirs: ONNX Runtime's int8
    convolution writes int8 only, and would give way to the float one.
    """
    count = 0
    while (found := _float_only(model, float_nodes)) is not None:
        node, back, users = found
        names = {d.output[0]: node.input[0] for d in back}
        for user in users:
            for i, name in enumerate(user.input):
                user.input[i] = names.get(name, name)
        _remove(model, [node, *back])
        count += 1
    return count


def _float_only(
    model: onnx.ModelProto, float_nodes: frozenset[str]
) -> tuple[onnx.NodeProto, list[onnx.NodeProto], list[onnx.NodeProto]] | None:
    """Return a rounding (QuantizeLinear, its DequantizeLinear nodes, their readers) that nothing needs."""
    read_by = readers(model.graph)

    def floats(node: onnx.NodeProto) -> bool:
        if node.op_type in _SHAPE:
            after = [reader for name in node.output for reader in read_by.get(name, [])]
            return bool(after) and all(map(floats, after))
        if node.name and node.name in float_nodes:
            return True
        return node.op_type not in QUANTIZED_OPS and node.op_type != "QuantizeLinear"

    fixed = {i.name for i in model.graph.initializer}
    fixed |= {o for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose") for o in n.output}
    kept = {o.name for o in model.graph.output}
    for node in reversed(model.graph.node):
        if node.op_type != "QuantizeLinear" or node.input[0] in fixed:
            continue
        back = read_by.get(node.output[0], [])
        users = [user for d in back for user in read_by.get(d.output[0], [])]
        whole = all(d.op_type == "DequantizeLinear" and d.output[0] not in kept for d in back)
        if users and whole and all(map(floats, users)):
            return node, back, users
    return None


def _remove(model: onnx.ModelProto, dropped: list[onnx.NodeProto]) -> None:
    """Remove nodes, and the constants that nobody reads afterwards."""
    names = {node.output[0] for node in dropped}
    left = [node for node in model.graph.node if node.output[0] not in names]
    del model.graph.node[:]
    model.graph.node.extend(left)
    used = {name for node in left for name in node.input} | {o.name for o in model.graph.output}
    constants = [i for i in model.graph.initializer if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    infos = [v for v in model.graph.value_info if v.name not in names]
    del model.graph.value_info[:]
    model.graph.value_info.extend(infos)
