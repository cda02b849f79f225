"""LiteRT, the TensorFlow Lite runtime. Where the file is channels-last, inputs are turned; where its inputs
and outputs are int8, they are rounded and read in the steps that the file states.
"""

from __future__ import annotations

RUNTIME = {
    "distribution": "ai-edge-litert",
    "extra": "runtimes-litert",
    "about": "TensorFlow Lite: phones, microcontrollers",
    "reads": "tflite",
    "pins": (
        *("torch==2.13.0", "litert-torch==0.10.0", "ai-edge-litert==2.3.0", "ai-edge-quantizer==0.10.0"),
        *("numpy", "safetensors", "jsonschema"),
    ),
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


def inspect(job) -> dict:
    """Return who computes what with XNNPACK, and the arena that the reference kernels are given.

    A tensor inside a delegate has no memory. The reference kernels need no scratch, like a
    microcontroller's; the arena is the span of addresses that the interpreter gave to what it computes.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF}
    quick = Interpreter(model_path=job["model"], num_threads=job["threads"])
    quick.allocate_tensors()
    steps = quick._get_ops_details()
    by_delegate = {t for s in steps if s["op_name"] == "DELEGATE" for t in s["outputs"]}
    held = _held(quick, [t for s in steps for t in s["outputs"]])
    operators = [
        {
            "name": f"{step['op_name']}_{step['index']}",
            "kind": step["op_name"],
            "delegated": all(t in by_delegate or t not in held for t in step["outputs"]),
        }
        for step in steps
        if step["op_name"] != "DELEGATE"
    ]
    unit = "XNNPACK" if by_delegate else "no delegate"
    facts = {"unit": unit, "operators": operators}
    whole = Interpreter(model_path=job["model"], num_threads=1, **plain)
    whole.allocate_tensors()
    given = [d["index"] for d in whole.get_input_details()]
    spans = _held(whole, [*given, *(t for s in whole._get_ops_details() for t in s["outputs"])])
    if spans:
        ends = [start + size for start, size in spans.values()]
        facts["memory_bytes"] = max(ends) - min(start for start, _ in spans.values())
        facts["memory_of"] = "TFLite's arena with reference kernels, inputs included"
    return facts


def _held(interpreter, tensors: list) -> dict:
    """Return {tensor: (address, bytes)} of those that have memory of the interpreter's."""
    found = {}
    for index in tensors:
        try:
            view = interpreter.tensor(int(index))()
        except ValueError:  # no memory: it is inside a delegate
            continue
        found[int(index)] = (view.__array_interface__["data"][0], view.nbytes)
    return found
