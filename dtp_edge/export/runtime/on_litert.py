"""LiteRT, the TensorFlow Lite runtime. The file keeps the network's own layout of inputs and outputs."""

from __future__ import annotations


def load(job):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=job["model"], num_threads=job["threads"])
    runner = interpreter.get_signature_runner()
    # signature names are args_0, args_1, ... and output_0, output_1, ...: order is kept by their names
    inputs_in_order = sorted(runner.get_input_details(), key=_number)

    def run(inputs):
        outputs = runner(**dict(zip(inputs_in_order, inputs)))  # noqa: B905  # any Python
        return [outputs[name] for name in sorted(outputs, key=_number)]

    return run


def _number(name: str) -> tuple[int, str]:
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits) if digits else 0, name)
