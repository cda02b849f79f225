"""A file with 16-bit weights gives a file with 16-bit weights, the same numbers, and is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from helpers.onnx_graphs import FLOAT, Graph, truth
from onnx import TensorProto, numpy_helper

import dtp_edge as dtp
from dtp_edge.onnx.reader import load_onnx

HALF = TensorProto.FLOAT16


def stored(path: Any) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {t.name: (t.data_type, tuple(t.dims)) for t in onnx.load(path).graph.initializer}


def source(path: Path, wide_input: bool) -> Path:
    """Two convolutions in float16, and one whose weights no float16 holds."""
    g = Graph(17)
    x = g.input("x", (1, 3, 12, 12), FLOAT if wide_input else HALF)
    x = g.add("Cast", x, to=HALF) if wide_input else x

    def half(*shape: int) -> str:
        return g.store((g.rng.standard_normal(shape) * 0.3).astype(np.float16))

    a = g.add("Relu", g.add("Conv", x, half(24, 3, 3, 3), half(24), pads=[1, 1, 1, 1]))
    b = g.add("Conv", a, half(20, 24, 3, 3), half(20))
    c = g.add("Relu", g.add("Cast", b, to=FLOAT))
    y = g.add("Conv", c, g.store(g.rng.standard_normal((4, 20, 1, 1)).astype(np.float32)), name="y")
    return g.save(path, y)


def test_weights_stay_in_16_bits_where_that_loses_nothing(tmp_path: Path) -> None:
    for wide_input in (True, False):
        module, examples = load_onnx(source(tmp_path / "in.onnx", wide_input))
        out = tmp_path / f"out{wide_input}"
        result = dtp.prune_for_device(
            module, examples, device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(params="60%"), out=out
        )
        assert result.onnx is not None
        kinds = {dims[2:]: kind for kind, dims in stored(result.onnx).values() if len(dims) == 4}
        assert kinds == {(3, 3): HALF, (1, 1): FLOAT}
        with torch.no_grad():
            wanted = result.masked(*examples).float().numpy()
        found = truth(result.onnx, [x.numpy() for x in examples])[0]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
        again, _ = load_onnx(result.onnx)  # and once more: its weights are weights to the reader too
        twice = dtp.prune_for_device(
            again, examples, device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(params="60%")
        )
        assert any(kept < total for kept, total in twice.widths.values())


def test_files_in_float32_stay_in_float32(tmp_path: Path) -> None:
    g = Graph(17)
    weights = np.full((24, 3, 3, 3), 0.5, np.float32), np.full((4, 24, 1, 1), 0.25, np.float32)
    hidden = g.add("Relu", g.add("Conv", g.input("x", (1, 3, 8, 8)), g.store(weights[0])))
    path = g.save(tmp_path / "in.onnx", g.add("Conv", hidden, g.store(weights[1])))
    module, examples = load_onnx(path)
    result = dtp.prune_for_device(
        module, examples, device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(params="60%"), out=tmp_path / "out"
    )
    assert {kind for kind, dims in stored(result.onnx).values() if len(dims) == 4} == {FLOAT}
    assert not any(
        numpy_helper.to_array(t).dtype == np.float16 for t in onnx.load(result.onnx).graph.initializer
    )
