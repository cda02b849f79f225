"""The smallest files on which a runtime fails, crashes or is wrong: one for each cause in the runtime matrix.

    python -m benchmarks.runtimes.faults            # writes benchmarks/results/runtime_faults.md

Every file passes onnx.checker and runs in ONNX Runtime. The exporter avoids what it can (see
dtp_edge/export/portable.py and the uint8 activations of int8.py); the rest is the runtime's to mend.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.experiments import EXPERIMENTS
from dtp_edge.runtimes import check_runtimes

FOUND = EXPERIMENTS["runtime_faults"]
Nodes = list[onnx.NodeProto]


def model(nodes: Nodes, constants: dict[str, np.ndarray], shape: list[int], rank: int) -> onnx.ModelProto:
    """Return a checked model x -> y at opset 18, IR 10."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "fault", [x], [y], tensors)
    made = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    made = onnx.shape_inference.infer_shapes(made, strict_mode=True)
    onnx.checker.check_model(made, full_check=True)
    return made


def qdq(name: str, out: str, scale: str = "s", zero: str = "z") -> Nodes:
    """Quantise and dequantise a tensor."""
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [out]),
    ]


def quantised_convolution(
    zero: np.ndarray, channels: int = 4, kernel: int = 3
) -> tuple[Nodes, dict[str, np.ndarray]]:
    """QDQ -> Conv with int8 weights per channel -> QDQ."""
    random = np.random.default_rng(0)
    weight = random.integers(-127, 128, (channels, channels, kernel, kernel)).astype(np.int8)
    constants = {
        "s": np.float32(0.02),
        "z": zero,
        "w": weight,
        "ws": random.uniform(0.001, 0.002, channels).astype(np.float32),
        "wz": np.zeros(channels, np.int8),
        "os": np.float32(0.05),
    }
    nodes = qdq("x", "xd")
    nodes += [
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["c"], pads=[kernel // 2] * 4),
        *qdq("c", "y", "os", "z"),
    ]
    return nodes, constants


def pnnx_mean() -> onnx.ModelProto:
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    return model([node], {"axes": np.array([2])}, [1, 8, 5], 2)


def pnnx_slice() -> onnx.ModelProto:
    node = helper.make_node("Slice", ["x", "start", "end", "axis", "step"], ["y"])
    values = {"start": [0, 0], "end": [8, 8], "axis": [2, 3], "step": [2, 2]}
    return model([node], {k: np.array(v) for k, v in values.items()}, [1, 4, 8, 8], 4)


def int8_convolution() -> onnx.ModelProto:
    nodes, constants = quantised_convolution(np.uint8(128))
    return model(nodes, constants, [1, 4, 8, 8], 4)


def int8_gemm() -> onnx.ModelProto:
    constants = {"s": np.float32(0.02), "z": np.uint8(128), "w": np.ones((3, 4), np.int8)}
    constants |= {"ws": np.float32(0.01), "wz": np.int8(0)}
    nodes = [
        *qdq("x", "xd"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Gemm", ["xd", "wd"], ["y"], transB=1),
    ]
    return model(nodes, constants, [1, 4], 2)


def openvino_pad() -> onnx.ModelProto:
    """Zero channels added between two int8 tensors whose zero point is -128: zero is stored as -128."""
    nodes, constants = quantised_convolution(np.int8(-128))
    nodes[-1].output[0] = "cd"
    nodes += [helper.make_node("Pad", ["cd", "pads", "nought"], ["p"]), *qdq("p", "y", "os", "z")]
    constants |= {"pads": np.array([0, 2, 0, 0, 0, 2, 0, 0]), "nought": np.float32(0)}
    return model(nodes, constants, [1, 4, 8, 8], 4)


def openvino_sum() -> onnx.ModelProto:
    """Two int8 convolutions, the second rounded to steps of 0.5, and the sum with the first one's input.

    OpenVINO gives exactly what the file without the rounding before the sum gives.
    """
    random = np.random.default_rng(0)
    constants = {
        "s": np.float32(1 / 32),
        "z": np.uint8(0),
        "coarse": np.float32(0.5),
        "middle": np.uint8(109),
    }
    constants |= {"ws": np.full(16, 0.0005, np.float32), "wz": np.zeros(16, np.int8)}
    nodes = qdq("x", "h0")
    for k, (scale, zero) in enumerate((("s", "z"), ("coarse", "middle"))):
        constants[f"w{k}"] = random.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
        nodes += [
            helper.make_node("DequantizeLinear", [f"w{k}", "ws", "wz"], [f"d{k}"], axis=0),
            helper.make_node("Conv", [f"h{k}", f"d{k}"], [f"c{k}"], pads=[1] * 4),
            *qdq(f"c{k}", f"h{k + 1}", scale, zero),
        ]
    nodes += [helper.make_node("Add", ["h2", "h0"], ["t"]), *qdq("t", "y", "s", "z")]
    return model(nodes, constants, [1, 16, 8, 8], 4)


def gather_between() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    constants = {"w": random.normal(size=(12, 12, 1, 1)).astype(np.float32), "index": random.permutation(12)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Gather", ["a", "index"], ["g"], axis=1),
        helper.make_node("Conv", ["g", "w"], ["y"]),
    ]
    return model(nodes, constants, [1, 12, 5, 5], 4)


def tract_softmax() -> onnx.ModelProto:
    nodes = [
        *qdq("x", "xd"),
        helper.make_node("Softmax", ["xd"], ["p"], axis=-1),
        *qdq("p", "y", "os", "oz"),
    ]
    constants = {"s": np.float32(0.02), "z": np.uint8(128), "os": np.float32(0.004), "oz": np.uint8(0)}
    return model(nodes, constants, [1, 4, 6], 3)


def openvino_concat() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["c"], axis=1),
        *qdq("c", "cd"),
        helper.make_node("Relu", ["cd"], ["r"]),
        *qdq("r", "y", "os", "oz"),
    ]
    constants = {"s": np.float32(0.03), "z": np.uint8(120), "os": np.float32(0.02), "oz": np.uint8(0)}
    return model(nodes, constants, [1, 4, 4, 4], 4)


def ncnn_transpose() -> onnx.ModelProto:
    """The windows of a Swin transformer: six dimensions, where an ncnn tensor has at most four."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["w"]),
        helper.make_node("Transpose", ["w"], ["t"], perm=[0, 1, 3, 2, 4, 5]),
        helper.make_node("Reshape", ["t", "flat"], ["y"]),
    ]
    constants = {"shape": np.array([1, 2, 7, 2, 7, 8]), "flat": np.array([1, 196, 8])}
    return model(nodes, constants, [1, 14, 14, 8], 3)


def ncnn_packed_attention() -> onnx.ModelProto:
    """torch's packed query, key and value: taken apart through five dimensions."""
    weight = np.random.default_rng(0).normal(size=(6, 18)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Reshape", ["p", "shape"], ["five"]),
        helper.make_node("Transpose", ["five"], ["t"], perm=[3, 1, 2, 0, 4]),
        helper.make_node("Squeeze", ["t", "axis"], ["q"]),
        helper.make_node("Gather", ["q", "index"], ["y"], axis=0),
    ]
    constants = {"w": weight, "shape": np.array([1, 5, 1, 3, 6]), "axis": np.array([-2])}
    return model(nodes, constants | {"index": np.array(1)}, [5, 6], 3)


FAULTS: list[tuple[str, str, Callable[[], onnx.ModelProto]]] = [
    ("ncnn", "pnnx: the mean of [1, C, L] over L becomes a Reduction over no axis", pnnx_mean),
    ("ncnn", "pnnx: a Slice with steps has no ncnn layer", pnnx_slice),
    ("ncnn", "pnnx: QuantizeLinear and DequantizeLinear have no ncnn layer", int8_convolution),
    ("ncnn", "pnnx: a Gather of many indices becomes the choice of one", gather_between),
    ("openvino", "a Gather of channels between two convolutions", gather_between),
    ("mnn", "a QDQ convolution has no output", int8_convolution),
    ("mnn", "the converter aborts on a Gemm with dequantised weights", int8_gemm),
    ("openvino", "Pad between int8 tensors with a zero point off the middle", openvino_pad),
    ("openvino", "a Concat, rounded twice", openvino_concat),
    ("openvino", "the rounding between an int8 convolution and a sum is left out", openvino_sum),
    ("tract", "Softmax between int8 tensors", tract_softmax),
    ("ncnn", "pnnx: six dimensions, where ncnn has four", ncnn_transpose),
    ("ncnn", "pnnx: a Reshape to five dimensions has no ncnn layer", ncnn_packed_attention),
]


@click.command()
@click.option("--runtimes", default="ncnn,mnn,openvino,tract")
def main(runtimes: str) -> None:
    """Run each file in its runtime and write the table."""
    rows = []
    for runtime, cause, build in FAULTS:
        if runtime not in runtimes.split(","):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fault.onnx"
            onnx.save(build(), str(path))
            (row,) = check_runtimes(path, [runtime])
        found = {"runtime": runtime, "version": row.version or "", "cause": cause, "status": row.status}
        rows.append(found | {"detail": row.detail or f"differs by {row.max_abs_diff}"})
        click.echo(" ".join(rows[-1].values()))
    FOUND.merge(rows)
    FOUND.write_page()


def whole_page() -> str:
    """The table of the committed rows."""
    rows = FOUND.read()
    origins = "; ".join(dict.fromkeys(row["origin"] for row in rows))
    lines = [f"# Smallest files that fail ({origins})", ""]
    lines += ["| runtime | cause | status | what it says |", "|---|---|---|---|"]
    for row in rows:
        cells = (f"{row['runtime']} {row['version']}", row["cause"], row["status"], row["detail"])
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
