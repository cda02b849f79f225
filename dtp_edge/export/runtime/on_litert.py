"""LiteRT, the TensorFlow Lite runtime. Where the file is channels-last, inputs and outputs are turned."""

from __future__ import annotations


def load(job):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=job["model"], num_threads=job["threads"])
    runner = interpreter.get_signature_runner()
    # signature names are args_0, args_1, ... and output_0, output_1, ...: their numbers give the order
    details = runner.get_input_details()
    entries = sorted(details, key=_number)

    def run(inputs):
        given = {}
        for name, value in zip(entries, inputs):  # noqa: B905  # any Python
            shape = tuple(details[name]["shape"])
            given[name] = value if shape == value.shape else value.transpose(0, 2, 3, 1)
        outputs = runner(**given)
        return [outputs[name] for name in sorted(outputs, key=_number)]

    return run


def _number(name: str):
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits) if digits else 0, name)
