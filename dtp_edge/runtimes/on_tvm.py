"""TVM: ONNX to Relax, compiled for this CPU."""

from __future__ import annotations

RUNTIME = {
    "distribution": "apache-tvm",
    "extra": "runtimes-tvm",
    "about": "compiler for CPUs, GPUs and accelerators",
}


def load(job):
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    shapes = dict(zip(job["input_names"], [tuple(s) for s in job["shapes"]]))  # noqa: B905  # any Python
    module = from_onnx(onnx.load(job["model"]), shape_dict=shapes, keep_params_in_input=False)
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())

    def run(inputs):
        result = machine["main"](*[tvm.runtime.tensor(value) for value in inputs])
        outputs = [result] if hasattr(result, "numpy") else list(result)
        return [output.numpy() for output in outputs]

    return run
