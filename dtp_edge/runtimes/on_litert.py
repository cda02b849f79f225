"""LiteRT, the TensorFlow Lite runtime. Where the file is channels-last, inputs are turned; where its inputs
and outputs are int8, they are rounded and read in the steps that the file states.
"""

from __future__ import annotations

RUNTIME = {
    "distribution": "ai-edge-litert",
    "extra": "runtimes-litert",
    "about": "TensorFlow Lite: phones, microcontrollers",
    "reads": "tflite",
}


def load(job):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=job["model"], num_threads=job["threads"])
    runner = interpreter.get_signature_runner()
    # signature names are args_0, args_1, ... and output_0, output_1, ...: their numbers give the order
    details, made = runner.get_input_details(), runner.get_output_details()
    entries = sorted(details, key=_number)

    def run(inputs):
        given = {}
        for name, value in zip(entries, inputs):  # noqa: B905  # any Python
            shape = tuple(details[name]["shape"])
            value = value if shape == value.shape else value.transpose(0, 2, 3, 1)
            given[name] = _rounded(value, details[name])
        outputs = runner(**given)
        return [_in_float(outputs[name], made[name]) for name in sorted(outputs, key=_number)]

    return run


def _rounded(value, detail):
    import numpy as np

    kind, (scale, zero) = np.dtype(detail["dtype"]), detail["quantization"]
    if value.dtype == kind or not scale:
        return value
    limits = np.iinfo(kind)
    return np.clip(np.rint(value / scale) + zero, limits.min, limits.max).astype(kind)


def _in_float(value, detail):
    import numpy as np

    scale, zero = detail["quantization"]
    return (value.astype(np.float32) - zero) * np.float32(scale) if scale else value


def _number(name: str):
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits) if digits else 0, name)
