"""Which runtimes are known, what each is good for, and how to install it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Runtime:
    """One runtime: `distribution` is its package, `extra` the extra of dtp-edge that installs it.

    `reads` is the kind of file that it is given: "onnx", or "tflite" for the file of the same stem beside it.
    """

    name: str
    distribution: str
    extra: str
    about: str
    reads: str = "onnx"

    @property
    def adapter(self) -> Path:
        return Path(__file__).with_name(f"on_{self.name}.py")

    @property
    def install(self) -> str:
        return f'pip install "dtp-edge[{self.extra}]"' if self.extra else "pip install dtp-edge"


RUNTIMES: dict[str, Runtime] = {
    r.name: r
    for r in (
        Runtime("onnxruntime", "onnxruntime", "", "Linux, Windows, Android, iOS boards"),
        Runtime("openvino", "openvino", "runtimes-openvino", "Intel and ARM CPUs"),
        Runtime("tract", "tract", "runtimes-tract", "pure Rust, small ARM boards"),
        Runtime("ncnn", "ncnn", "runtimes-ncnn", "phones and single-board computers; converted by pnnx"),
        Runtime("mnn", "MNN", "runtimes-mnn", "phones and single-board computers"),
        Runtime("tvm", "apache-tvm", "runtimes-tvm", "compiler for CPUs, GPUs and accelerators"),
        Runtime("iree", "iree-base-compiler", "runtimes-iree", "compiler for CPUs, GPUs and accelerators"),
        Runtime(
            "litert",
            "ai-edge-litert",
            "runtimes-litert",
            "TensorFlow Lite: phones, microcontrollers",
            "tflite",
        ),
    )
}
