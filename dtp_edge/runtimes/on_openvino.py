"""OpenVINO on the CPU, at f32 (its own default is bf16 where the CPU has it)."""

from __future__ import annotations

RUNTIME = {"distribution": "openvino", "extra": "runtimes-openvino", "about": "Intel and ARM CPUs"}


def load(job):
    import openvino as ov

    core = ov.Core()
    settings = {
        "INFERENCE_NUM_THREADS": job["threads"],
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(job["model"]), "CPU", settings).create_infer_request()

    def run(inputs):
        request.infer(dict(enumerate(inputs)))
        return [request.get_output_tensor(i).data.copy() for i in range(len(request.model_outputs))]

    return run
