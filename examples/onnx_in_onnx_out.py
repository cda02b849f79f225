"""ONNX in, ONNX out: a file that nobody has the Python of any more.

    python examples/onnx_in_onnx_out.py old.onnx --device rpi4-ncnn-fp32-1t --latency 70% --out runs/smaller

Without a file, one is made. The file becomes a network that is traced like any other; what it holds that
cannot be read is refused by name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch

import dtp_edge as dtp
from dtp_edge.onnx import export_onnx
from dtp_edge.zoo import create, resolve_model


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?", help="the ONNX file to make smaller")
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t")
    parser.add_argument("--latency", default="70%")
    parser.add_argument("--out", type=Path, default=Path("runs/onnx"))
    options = parser.parse_args()

    file = options.file
    if file is None:
        file = options.out.with_name("old.onnx")
        file.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(create("resnet8").eval(), (torch.randn(1, 3, 32, 32),), file)

    model, example, _ = resolve_model(str(file))
    x = example[0][:1].numpy()
    with torch.no_grad():
        gap = np.abs(model.eval()(torch.from_numpy(x)).numpy() - run(file, x)).max()
    print(f"read {file}: differs from ONNX Runtime by {gap:.1e}")

    result = dtp.prune_for_device(
        model,
        example,
        device=options.device,
        budget=dtp.Budget(latency=options.latency),
        out=options.out,
        force=True,
    )
    assert result.onnx is not None
    with torch.no_grad():
        masked = result.masked(torch.from_numpy(x)).numpy()
    print(f"wrote {result.onnx}: {file.stat().st_size} bytes before, {result.onnx.stat().st_size} after")
    print(f"differs from the masked original by {np.abs(run(result.onnx, x) - masked).max():.1e}")


if __name__ == "__main__":
    main()
