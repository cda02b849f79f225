"""ncnn's `.param` and `.bin`, from the ONNX file by pnnx."""

from __future__ import annotations

import os

FORMAT = {
    "about": "ncnn: phones and single-board computers",
    "runtime": "ncnn",
    "suffixes": (".ncnn.param", ".ncnn.bin"),
    "made_of": "onnx",
}


def make(job, samples) -> dict:
    from dtp_edge.runtimes.on_ncnn import convert

    ports = job["inputs"]
    stem = convert(job["onnx"], [p["shape"] for p in ports], [p["dtype"] for p in ports], job["folder"])
    target = job["target"].removesuffix(".param")
    os.replace(stem + ".ncnn.bin", target + ".bin")
    os.replace(stem + ".ncnn.param", target + ".param")
    return {}
