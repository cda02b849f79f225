"""OpenVINO on the CPU, at f32 (its own default is bf16 where the CPU has it)."""

from __future__ import annotations

RUNTIME = {
    "distribution": "openvino",
    "extra": "runtimes-openvino",
    "about": "Intel and ARM CPUs",
    "pins": ("openvino==2026.4.1", "numpy"),
}

_NO_WORK = ("Input", "Output", "Const", "Parameter", "Result")
_PLAIN = ("ref", "unknown")  # kernels without code for this processor


def load(job):
    request = _compiled(job).create_infer_request()

    def run(inputs):
        request.infer(dict(enumerate(inputs)))
        return [request.get_output_tensor(i).data.copy() for i in range(len(request.model_outputs))]

    return run


def inspect(job) -> dict:
    """Return the compiled graph's operators; one that runs by a reference kernel stayed behind."""
    operators = []
    for one in _compiled(job).get_runtime_model().get_ordered_ops():
        about = one.get_rt_info()
        kind, kernel = (about[k].astype(str) if k in about else "" for k in ("layerType", "primitiveType"))
        if kind in _NO_WORK:
            continue
        moves = kind in ("Reshape", "Reorder")  # nothing is computed there
        delegated = moves or not kernel.startswith(_PLAIN)
        operators.append({"name": one.get_friendly_name(), "kind": kind, "delegated": delegated})
    return {"unit": "oneDNN and JIT kernels of OpenVINO's CPU plug-in", "operators": operators}


def _compiled(job):
    import openvino as ov

    core = ov.Core()
    settings = {
        "INFERENCE_NUM_THREADS": job["threads"],
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    return core.compile_model(core.read_model(job["model"]), "CPU", settings)
