"""IREE: ONNX to MLIR to a module for any CPU of this kind."""

from __future__ import annotations

import os
import subprocess
import sys

RUNTIME = {
    "distribution": "iree-base-compiler",
    "extra": "runtimes-iree",
    "about": "compiler for CPUs, GPUs and accelerators",
}


def load(job):
    import iree.runtime as rt
    import numpy as np
    from iree.compiler import compile_file

    mlir = os.path.join(job["folder"], "model.mlir")
    command = [sys.executable, "-m", "iree.compiler.tools.import_onnx", job["model"], "-o", mlir]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError("iree-import-onnx: " + " | ".join(done.stderr.strip().splitlines()[-2:]))
    binary = compile_file(
        mlir,
        input_type="onnx",
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=generic"],
    )
    config = rt.Config("local-sync" if job["threads"] == 1 else "local-task")
    module = rt.VmModule.copy_buffer(config.vm_instance, binary)
    bound = rt.load_vm_module(module, config)
    names = [n for n in bound.vm_module.function_names if not n.startswith("__")]
    entry = bound[next(n for n in names if not n.endswith("$async"))]

    def run(inputs):
        result = entry(*inputs)
        outputs = list(result) if isinstance(result, (list, tuple)) else [result]
        return [np.asarray(o.to_host() if hasattr(o, "to_host") else o) for o in outputs]

    return run
