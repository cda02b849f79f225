"""ONNX Runtime on the CPU. With `optimise` false it is the reference: every node as the file says."""

from __future__ import annotations

RUNTIME = {"distribution": "onnxruntime", "extra": "", "about": "Linux, Windows, Android, iOS boards"}


def load(job):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.log_severity_level = 3
    if not job["optimise"]:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(zip(job["input_names"], inputs)))  # noqa: B905  # any Python
