"""Which operators are quantised, and the last touches that make an int8 file that every reader accepts."""

from __future__ import annotations

from pathlib import Path

import onnx

MAX_IR = 10  # ONNX Runtime, OpenVINO, tract, ncnn, TVM and IREE all read IR 10

# Norms, softmax, Where and index operators stay in float: few runtimes have int8 kernels for them, and
# they cost accuracy for little time. Shape operators are quantised only to carry int8 values through.
_COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat")
_ACTIVATION = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool")
_SHAPE = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Split", "Slice", "Pad", "Resize")
QUANTIZED_OPS = frozenset((*_COMPUTE, *_ACTIVATION, *_SHAPE))


def finish_model(raw: Path, fp32_path: Path, method: str) -> Path:
    """Rewrite the quantiser's file: checked, deterministic, with the fp32 file's metadata, names and IR."""
    model = onnx.load(str(raw))
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
