"""MNN through its converter library; the `mnnconvert` program, which uploads, stays out."""

from __future__ import annotations

import os

RUNTIME = {"distribution": "MNN", "extra": "runtimes-mnn", "about": "phones and single-board computers"}


def load(job):
    import _tools  # MNN's converter, a module beside it
    import MNN
    import numpy as np

    target = os.path.join(job["folder"], "model.mnn")
    options = ["-f", "ONNX", "--modelFile", job["model"], "--MNNModel", target, "--bizCode", "x"]
    _tools.mnnconvert(["mnnconvert", *options])
    if not os.path.exists(target):
        raise RuntimeError("the MNN converter wrote no file")
    config = {"backend": 0, "numThread": job["threads"], "precision": "high"}
    manager = MNN.nn.create_runtime_manager((config,))
    net = MNN.nn.load_module_from_file(
        target, job["input_names"], job["output_names"], runtime_manager=manager
    )

    def run(inputs):
        values = []
        for value in inputs:
            variable = MNN.expr.placeholder(list(value.shape), MNN.expr.NCHW, _dtype(MNN, value.dtype.name))
            variable.write(value)
            values.append(variable)
        outputs = net.forward(values)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [np.array(MNN.expr.convert(o, MNN.expr.NCHW).read()) for o in outputs]

    return run


def _dtype(mnn, name: str):
    return {"float32": mnn.expr.float, "int32": mnn.expr.int, "int64": mnn.expr.int64}[name]
