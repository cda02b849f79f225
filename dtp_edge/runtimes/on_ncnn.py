"""ncnn: its own `.param` and `.bin`, or an ONNX file that pnnx converts first.

The pnnx program itself is called, since its Python script imports torch.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess

RUNTIME = {
    "distribution": "ncnn",
    "extra": "runtimes-ncnn",
    "about": "phones and single-board computers; converted by pnnx",
    "pins": ("ncnn==1.0.20261020", "numpy"),
    "bare_pins": ("pnnx==20261020",),  # its program is called; what its Python script imports is not needed
}

_TYPES = {"float32": "f32", "float64": "f64", "int64": "i64", "int32": "i32"}
_NO_WORK = ("Input", "Split", "MemoryData")


def load(job):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = job["threads"]
    net.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    param = _param(job)
    if net.load_param(param) or net.load_model(param.removesuffix(".param") + ".bin"):
        raise RuntimeError("ncnn cannot load what pnnx wrote: " + leftovers(param))
    names = net.output_names()

    def run(inputs):
        extractor = net.create_extractor()
        for i, value in enumerate(inputs):
            # ncnn has no batch dimension: batch 1 is dropped
            extractor.input(f"in{i}", ncnn.Mat(value[0] if value.ndim > 1 else value).clone())
        outputs = []
        for name in names:
            code, output = extractor.extract(name)
            if code:
                raise RuntimeError(f"ncnn stopped at {name} with code {code}")
            outputs.append(output.numpy().copy())
        return outputs

    return run


def _param(job) -> str:
    """Return the file that describes the graph, converted in the job's folder where ONNX was given."""
    if job["model"].endswith(".param"):
        return job["model"]
    return convert(job["model"], job["shapes"], job["dtypes"], job["folder"]) + ".ncnn.param"


def convert(path: str, shapes: list, dtypes: list, folder: str) -> str:
    """Convert a copy in `folder` with pnnx; return the stem of its files."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("pnnx, which converts to ncnn, is not installed")
    stem = os.path.join(folder, "model")
    shutil.copyfile(path, stem + ".onnx")
    inputs = ["[{}]{}".format(",".join(map(str, s)), _TYPES[d]) for s, d in zip(shapes, dtypes)]  # noqa: B905
    command = [os.path.join(spec.submodule_search_locations[0], "pnnx"), stem + ".onnx", "fp16=0"]
    done = subprocess.run(
        [*command, "inputshape=" + ",".join(inputs)], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode or not os.path.exists(stem + ".ncnn.param"):
        tail = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise RuntimeError(f"pnnx ended with code {done.returncode}: {' | '.join(tail)}")
    return stem


def inspect(job) -> dict:
    """Return the layers of the graph: what ncnn loads it computes itself."""
    with open(_param(job), encoding="utf-8") as file:
        rows = [line.split()[:2] for line in file.readlines()[2:] if line.strip()]
    operators = [
        {"name": name, "kind": kind, "delegated": "." not in kind and "::" not in kind}
        for kind, name in rows
        if kind not in _NO_WORK
    ]
    return {"unit": "ncnn layers", "operators": operators}


def leftovers(param: str) -> str:
    """Name the operators that pnnx could not turn into ncnn layers."""
    with open(param, encoding="utf-8") as file:
        kinds = [line.split()[0] for line in file.readlines()[2:] if line.strip()]
    foreign = sorted({k for k in kinds if "." in k or "::" in k})
    return "no layer for " + ", ".join(foreign) if foreign else "unknown cause"
