"""Stand-ins for vendors' environments: small packages that a real Python imports in place of theirs."""

from __future__ import annotations

import sys
from pathlib import Path

# OpenVINO's face, as far as ours calls it, over ONNX Runtime: an .xml is the ONNX file itself.
OPENVINO = """
import shutil
from types import SimpleNamespace

import onnxruntime as ort

ERROR, KERNELS = {error}, {kernels!r}

def convert_model(path):
    return path

def save_model(model, target, compress_to_fp16):
    shutil.copyfile(model, target)
    open(target[:-4] + ".bin", "wb").write(b"weights")

class Core:
    def read_model(self, path):
        return path
    def compile_model(self, path, device, settings):
        return Compiled(path)

class Text(str):
    def astype(self, kind):
        return str(self)

class Operator:
    def __init__(self, name, kind, kernel):
        self.name, self.about = name, {{"layerType": Text(kind), "primitiveType": Text(kernel)}}
    def get_friendly_name(self):
        return self.name
    def get_rt_info(self):
        return self.about

class Compiled:
    def __init__(self, path):
        self.session = ort.InferenceSession(path)
        self.model_outputs = self.session.get_outputs()
    def create_infer_request(self):
        return self
    def infer(self, values):
        names = [i.name for i in self.session.get_inputs()]
        self.found = self.session.run(None, dict(zip(names, [values[i] for i in range(len(names))])))
    def get_output_tensor(self, i):
        return SimpleNamespace(data=self.found[i] + ERROR)
    def get_runtime_model(self):
        return self
    def get_ordered_ops(self):
        return [Operator(*row) for row in KERNELS]
"""
KERNELS = [("x", "Input", "unknown"), ("c1", "Convolution", "jit_f32"), ("fc", "FullyConnected", "gemm_f32")]
LEFT = [("c1", "Convolution", "jit_f32"), ("odd", "FullyConnected", "ref_any")]


def environment(folder: Path, body: str, *, package: str = "openvino") -> str:
    """Write a program that stands for the interpreter of an environment in which `package` is `body`."""
    site = folder / "site" / package
    site.mkdir(parents=True, exist_ok=True)
    (site / "__init__.py").write_text(body)
    about = folder / "site" / f"{package}-9.9.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9\n")
    return program(folder / "python", f'PYTHONPATH="{site.parent}" exec "{sys.executable}" "$@"')


def openvino(folder: Path, *, error: float = 0.0, kernels: list[tuple[str, str, str]] | None = None) -> str:
    """Return a stand-in for OpenVINO's environment whose outputs are off by `error`."""
    return environment(folder, OPENVINO.format(error=error, kernels=kernels or KERNELS))


def program(path: Path, line: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)
