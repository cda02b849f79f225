"""The last step of an int8 file: its passes, the fp32 file's metadata, names and versions, checked."""

from __future__ import annotations

from pathlib import Path

import onnx

from dtp_edge.int8.case import Int8Case, Int8Rewrite
from dtp_edge.onnx.passes.unused_constants import UnusedConstants
from dtp_edge.onnx.rewriting import find_passes, run_passes

MAX_IR = 10  # ONNX Runtime, OpenVINO, tract, ncnn, TVM and IREE all read IR 10


def finish_model(raw: Path, fp32_path: Path, method: str, case: Int8Case) -> Path:
    """Rewrite the quantiser's file: checked, deterministic, with the fp32 file's metadata, names and IR."""
    passes = [kind(case) for kind in find_passes("dtp_edge.int8.passes", Int8Rewrite)]
    model = run_passes(onnx.load(str(raw)), [*passes, UnusedConstants()])
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
