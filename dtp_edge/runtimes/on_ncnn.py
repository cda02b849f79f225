"""ncnn, after pnnx: the pnnx program itself is called, since its Python script imports torch."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess

RUNTIME = {
    "distribution": "ncnn",
    "extra": "runtimes-ncnn",
    "about": "phones and single-board computers; converted by pnnx",
}

_TYPES = {"float32": "f32", "float64": "f64", "int64": "i64", "int32": "i32"}


def load(job):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = job["threads"]
    net.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    stem = convert(job)
    if net.load_param(stem + ".ncnn.param") or net.load_model(stem + ".ncnn.bin"):
        raise RuntimeError("ncnn cannot load what pnnx wrote: " + leftovers(stem + ".ncnn.param"))
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


def convert(job) -> str:
    """Convert a copy in the job's folder with pnnx; return the stem of its files."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("pnnx, which converts to ncnn, is not installed")
    stem = os.path.join(job["folder"], "model")
    shutil.copyfile(job["model"], stem + ".onnx")
    shapes = ["[{}]{}".format(",".join(map(str, s)), _TYPES[d]) for s, d in zip(job["shapes"], job["dtypes"])]  # noqa: B905
    command = [os.path.join(spec.submodule_search_locations[0], "pnnx"), stem + ".onnx", "fp16=0"]
    done = subprocess.run(
        [*command, "inputshape=" + ",".join(shapes)],
        cwd=job["folder"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not os.path.exists(stem + ".ncnn.param"):
        tail = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise RuntimeError(f"pnnx ended with code {done.returncode}: {' | '.join(tail)}")
    return stem


def leftovers(param: str) -> str:
    """Name the operators that pnnx could not turn into ncnn layers."""
    with open(param, encoding="utf-8") as file:
        kinds = [line.split()[0] for line in file.readlines()[2:] if line.strip()]
    foreign = sorted({k for k in kinds if "." in k or "::" in k})
    return "no layer for " + ", ".join(foreign) if foreign else "unknown cause"
