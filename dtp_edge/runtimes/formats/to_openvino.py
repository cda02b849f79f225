"""OpenVINO's IR (`.xml` and `.bin`), from the ONNX files: fp32, or int8 as the QDQ file has it."""

from __future__ import annotations

FORMAT = {
    "about": "OpenVINO IR: Intel and ARM CPUs, Intel GPUs and NPUs",
    "runtime": "openvino",
    "suffixes": (".xml", ".bin"),
    "made_of": "onnx",
    "precisions": ("fp32", "int8"),
}


def make(job, samples) -> dict:
    import openvino as ov

    ov.save_model(ov.convert_model(job["onnx"]), job["target"], compress_to_fp16=False)
    return {}
