# ruff: noqa: E501 (a table: one case a line)
"""Every operator that the reader knows, in its several opsets and attributes, against ONNX Runtime.

And the proof of reading itself: a reader that is wrong in any one operator does not get through.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.onnx_graphs import BOOL, FLOAT, INT64, Graph, truth

from dtp_edge.errors import CheckError, UnsupportedError
from dtp_edge.onnx.reader import load_onnx, registry, supported_operators

Made = tuple[Graph, list[str], list[int]]
CASES: dict[str, Callable[[], Made]] = {}
COVERED: set[str] = set()


def case(name: str, op: str, *inputs: Any, opset: int = 17, shape: Any = (1, 4, 6, 6), kind: int = FLOAT,
         outputs: int = 1, made: int = FLOAT, **attributes: Any) -> None:  # fmt: skip
    """One operator behind an input `x`; a tuple is the shape of a random weight, anything else a constant."""

    def build() -> Made:
        g = Graph(opset)
        x = g.input("x", shape, kind)
        given = [
            i
            if isinstance(i, str) and i in ("x", "")
            else g.weight(*i)
            if isinstance(i, tuple)
            else g.store(i)
            for i in inputs
        ]
        return g, [g.add(op, *given, outputs=outputs, **attributes) if x else ""], [made]

    assert name not in CASES
    CASES[name] = build
    COVERED.add(op)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


ONE = np.array(1.5, np.float32)
for op in ["Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Sin", "Cos", "Neg", "Abs", "Exp", "Floor", "Ceil", "Round", "Sign", "Atan", "Softsign", "Sinh", "Cosh", "Asinh", "Tan"]:  # fmt: skip
    case(op, op, "x")
case("HardSwish", "HardSwish", "x")
case("Mish", "Mish", "x", opset=18)
for op in ("Softmax", "LogSoftmax", "Hardmax"):
    case(f"{op}-11-default", op, "x", opset=11, shape=(1, 8))
    case(f"{op}-13-default", op, "x", opset=13)
    case(f"{op}-13-axis1", op, "x", opset=13, axis=1)
    if op != "Hardmax":
        for axis in (1, 2, 3):
            case(f"{op}-11-axis{axis}", op, "x", opset=11, axis=axis)
        case(f"{op}-9-coerced", op, "x", opset=9)
case("Pad-9-value", "Pad", "x", opset=9, pads=[0, 0, 1, 2, 0, 0, 0, 1], value=2.5)
case("Pad-9-negative", "Pad", "x", opset=9, pads=[0, 0, -1, 1, 0, 0, 0, -2])
for mode in ("constant", "reflect", "edge"):
    case(f"Pad-{mode}", "Pad", "x", i64(0, 0, 1, 2, 0, 0, 3, 1), mode=mode)
    case(f"Pad-{mode}-channels", "Pad", "x", i64(0, 1, 1, 2, 0, 2, 3, 1), mode=mode)
case("Pad-wrap", "Pad", "x", i64(0, 0, 1, 2, 0, 0, 3, 1), mode="wrap", opset=19)
case("Pad-axes", "Pad", "x", i64(1, 2), f32(1.5).reshape(()), i64(3), opset=18)
case("Upsample-nearest", "Upsample", "x", f32(1, 1, 2, 3), opset=9, mode="nearest")
case("Upsample-linear", "Upsample", "x", f32(1, 1, 2, 3), opset=9, mode="linear")
case("Resize-10", "Resize", "x", f32(1, 1, 1.7, 2), opset=10, mode="nearest")
for mode in ("nearest", "linear", "cubic"):
    for how in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for number, scales in enumerate(([1, 1, 2, 2], [1, 1, 1.7, 0.6])):
            case(f"Resize-{mode}-{how}-{number}", "Resize", "x", f32(), f32(*scales), opset=13, mode=mode,
                 coordinate_transformation_mode=how)  # fmt: skip
for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
    case(
        f"Resize-{rounding}", "Resize", "x", f32(), f32(1, 1, 1.7, 0.6), mode="nearest", nearest_mode=rounding
    )
case("Resize-sizes", "Resize", "x", "", "", i64(1, 4, 9, 4), mode="linear")
case("Resize-one-pixel", "Resize", "x", "", "", i64(1, 4, 1, 1), mode="linear")
case("Resize-axes", "Resize", "x", "", "", i64(12, 9), opset=18, mode="linear", axes=[2, 3])
case("Resize-antialias", "Resize", "x", "", "", i64(1, 4, 3, 4), opset=18, mode="linear", antialias=1)
case("Resize-antialias-cubic", "Resize", "x", "", "", i64(1, 4, 3, 4), opset=18, mode="cubic", antialias=1)
case("Resize-cubic-a", "Resize", "x", "", f32(1, 1, 2, 2), mode="cubic", cubic_coeff_a=-0.5)
case("Resize-cubic-exclude", "Resize", "x", "", f32(1, 1, 2, 2), mode="cubic", exclude_outside=1)
case("Resize-crop", "Resize", "x", f32(0, 0, 0.2, 0.1, 1, 1, 0.8, 0.9), "", i64(1, 4, 5, 5), mode="linear",
     coordinate_transformation_mode="tf_crop_and_resize")  # fmt: skip
for op in ("MaxPool", "AveragePool", "LpPool"):
    case(f"{op}-pads", op, "x", opset=11, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    case(f"{op}-unequal", op, "x", opset=11, kernel_shape=[3, 2], pads=[1, 0, 0, 1])
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        case(f"{op}-{auto}", op, "x", opset=11, kernel_shape=[3, 3], strides=[2, 2], auto_pad=auto)
for op, more in (("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})):
    name = f"{op}-{'counted' if more else 'ceil'}"
    case(
        f"{name}-ceil",
        op,
        "x",
        opset=19,
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
        **more,
    )
    case(
        f"{name}-ceil-5",
        op,
        "x",
        opset=19,
        shape=(1, 4, 7, 7),
        kernel_shape=[2, 2],
        strides=[3, 3],
        ceil_mode=1,
        **more,
    )
    case(f"{name}-1d", op, "x", opset=19, shape=(1, 4, 9), kernel_shape=[3], pads=[0, 1], **more)
case("MaxPool-dilated", "MaxPool", "x", opset=12, kernel_shape=[2, 2], dilations=[2, 2])
case("AveragePool-dilated", "AveragePool", "x", opset=19, kernel_shape=[2, 2], dilations=[2, 2])
case(
    "AveragePool-same-counted",
    "AveragePool",
    "x",
    opset=11,
    kernel_shape=[3, 3],
    auto_pad="SAME_UPPER",
    count_include_pad=1,
)
for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
    case(op, op, "x")
case("Conv-unequal", "Conv", "x", (8, 4, 3, 3), (8,), pads=[1, 0, 0, 2])
case("Conv-group-dilated", "Conv", "x", (8, 2, 2, 2), group=2, dilations=[2, 1], strides=[1, 2])
case("Conv-same-lower", "Conv", "x", (8, 4, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2])
case("Conv-1d", "Conv", "x", (8, 4, 3), shape=(1, 4, 9))
for name, more in {
    "same": {"auto_pad": "SAME_UPPER"}, "lower": {"auto_pad": "SAME_LOWER"}, "pads": {"pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    "unequal": {"pads": [1, 0, 0, 2]}, "shape": {"output_shape": [12, 12]},
}.items():  # fmt: skip
    case(f"ConvTranspose-{name}", "ConvTranspose", "x", (4, 6, 3, 3), (6,), strides=[2, 2], **more)
case("Gemm", "Gemm", "x", (16, 12), (12,), shape=(1, 16))
case("Gemm-scaled", "Gemm", "x", (12, 16), (1,), shape=(1, 16), transB=1, alpha=0.5, beta=2.0)
case("Gemm-matrix", "Gemm", "x", (3, 12), (4, 12), shape=(3, 4), transA=1)
case("MatMul", "MatMul", "x", (6, 5))
case("MatMul-left", "MatMul", (8, 6), "x")
case("Einsum", "Einsum", "x", (6, 5), equation="nchw, wk -> nchk")
case("BatchNormalization", "BatchNormalization", "x", (4,), (4,), (4,), f32(1, 2, 0.5, 0.7), epsilon=1e-3)
case("InstanceNormalization", "InstanceNormalization", "x", (4,), (4,))
case("GroupNormalization", "GroupNormalization", "x", (4,), (4,), opset=21, num_groups=2)
case("LayerNormalization", "LayerNormalization", "x", (6,), (6,))
case("LayerNormalization-axis", "LayerNormalization", "x", (4, 6, 6), axis=1, epsilon=1e-3)
case("LRN", "LRN", "x", size=3, alpha=0.01, bias=2.0)
for p in (1, 2):
    case(f"LpNormalization-{p}", "LpNormalization", "x", axis=1, p=p)
for name, op, more in (
    ("LeakyRelu", "LeakyRelu", {"alpha": 0.3}), ("Elu", "Elu", {"alpha": 0.7}), ("Celu", "Celu", {"alpha": 0.7}),
    ("ThresholdedRelu", "ThresholdedRelu", {"alpha": 0.5}), ("Shrink", "Shrink", {"lambd": 0.4, "bias": 0.1}),
    ("Selu", "Selu", {}), ("Selu-own", "Selu", {"alpha": 1.0, "gamma": 1.2}),
    ("HardSigmoid", "HardSigmoid", {}), ("HardSigmoid-own", "HardSigmoid", {"alpha": 1 / 6, "beta": 0.4}),
):  # fmt: skip
    case(name, op, "x", **more)
for approximate in ("none", "tanh"):
    case(f"Gelu-{approximate}", "Gelu", "x", opset=20, approximate=approximate)
case("PRelu", "PRelu", "x", (4, 1, 1))
case("PRelu-places", "PRelu", "x", (4, 6, 6))
case("Clip-6", "Clip", "x", opset=9, min=-0.5, max=0.3)
case("Clip-11", "Clip", "x", np.float32(-0.5), opset=11)
case("Clip-max", "Clip", "x", "", np.float32(0.2))
for op in ("Add", "Sub", "Mul", "Div"):
    case(op, op, "x", (4, 1, 1))
    case(f"{op}-number", op, "x", ONE)
    case(f"{op}-first", op, (4, 1, 1), "x")
    case(f"{op}-int", op, "x", i64(3, 2, 5, -4, 7, 1), kind=INT64, made=INT64)
case("Mul-wider", "Mul", "x", f32(0.5).reshape(1, 1, 1, 1), shape=(1, 12))
case("Pow", "Pow", "x", np.float32(3))
case("Pow-int", "Pow", "x", np.array(2, np.int64), kind=INT64, made=INT64)
case("Mod", "Mod", "x", i64(3, -2, 5, -4, 7, 1), kind=INT64, made=INT64)
case("Mod-float", "Mod", "x", ONE, fmod=1)
for op in ("Max", "Min", "Sum", "Mean"):
    case(op, op, "x", (4, 1, 1), (1, 6))
for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
    case(op, op, "x", np.zeros((), np.float32), made=BOOL)
for op in ("And", "Or", "Xor"):
    case(op, op, "x", np.arange(6) % 2 == 0, kind=BOOL, made=BOOL)
for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
    case(op, op, "x", i64(1, 2, 3, 4, 5, 6), kind=INT64, made=INT64, opset=18)
case("BitwiseNot", "BitwiseNot", "x", kind=INT64, made=INT64, opset=18)
case("Not", "Not", "x", kind=BOOL, made=BOOL)
case("IsNaN", "IsNaN", "x", made=BOOL)
case("IsInf", "IsInf", "x", made=BOOL)
case("Where", "Where", np.arange(6) % 2 == 0, "x", ONE)
for op in [
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceProd",
    "ReduceSumSquare",
    "ReduceLogSumExp",
]:
    case(f"{op}-11", op, "x", opset=11, axes=[1, -1], keepdims=0)
    case(f"{op}-all", op, "x", opset=11)
    case(f"{op}-18", op, "x", i64(2), opset=18)
    case(f"{op}-18-nothing", op, "x", opset=18, noop_with_empty_axes=1)
case("ReduceSum-13", "ReduceSum", "x", i64(1, 3), opset=13, keepdims=0)
for op in ("ArgMax", "ArgMin"):
    case(op, op, "x", axis=-1, keepdims=0, made=INT64)
case("TopK", "TopK", "x", i64(3), axis=1, outputs=2)
case("TopK-smallest", "TopK", "x", i64(2), axis=-1, largest=0, outputs=2)
case("CumSum", "CumSum", "x", np.array(1, np.int64))
case("CumSum-reverse", "CumSum", "x", np.array(-1, np.int64), reverse=1, exclusive=1)
case("Reshape", "Reshape", "x", i64(0, 2, -1))
case("Flatten", "Flatten", "x")
case("Flatten-0", "Flatten", "x", axis=0)
case("Flatten-negative", "Flatten", "x", axis=-2)
case("Transpose", "Transpose", "x", perm=[0, 2, 3, 1])
case("Transpose-default", "Transpose", "x")
case("Squeeze-11", "Squeeze", "x", opset=11, shape=(1, 4, 1, 6), axes=[2])
case("Squeeze-13", "Squeeze", "x", i64(-2), shape=(1, 4, 1, 6))
case("Squeeze-all", "Squeeze", "x", shape=(1, 4, 1, 6))
case("Unsqueeze-11", "Unsqueeze", "x", opset=11, axes=[1, -1])
case("Unsqueeze-13", "Unsqueeze", "x", i64(0, 3))
case("Expand", "Expand", "x", i64(2, 1, 4, 3, 6), shape=(1, 4, 1, 6))
case("Tile", "Tile", "x", i64(1, 2, 1, 3))
case("Identity", "Identity", "x")
case("Dropout", "Dropout", "x", opset=11, ratio=0.3)
case("Dropout-13", "Dropout", "x", np.float32(0.3), np.array(False))
case("Cast", "Cast", "x", to=INT64, made=INT64)
case("CastLike", "CastLike", "x", i64(1), made=INT64)
case("Trilu", "Trilu", "x", np.array(1, np.int64))
case("Trilu-lower", "Trilu", "x", upper=0)
case("EyeLike", "EyeLike", "x", shape=(3, 4), k=1)
for mode in ("DCR", "CRD"):
    case(f"DepthToSpace-{mode}", "DepthToSpace", "x", blocksize=2, mode=mode)
case("SpaceToDepth", "SpaceToDepth", "x", blocksize=2)
case("Concat", "Concat", "x", (1, 2, 6, 6), axis=1)
case("Split-11", "Split", "x", opset=11, axis=1, split=[1, 3], outputs=2)
case("Split-13", "Split", "x", i64(3, 1), axis=1, outputs=2)
case("Split-18", "Split", "x", opset=18, axis=-1, num_outputs=4, outputs=4)
case("Slice-9", "Slice", "x", opset=9, starts=[1, -4], ends=[9223372036854775807, -1], axes=[1, 3])
case("Slice-steps", "Slice", "x", i64(5, 0), i64(-(2**62), 5), i64(2, 3), i64(-2, 2))
case("Slice-last", "Slice", "x", i64(-1), i64(-3), i64(3), i64(-1))
case("Gather", "Gather", "x", i64(-1, 0, 3), axis=1)
case("Gather-scalar", "Gather", "x", np.array(-1, np.int64), axis=1)
case("Gather-matrix", "Gather", "x", np.array([[0, 1], [2, -1]]), axis=2)
case("Gather-table", "Gather", (20, 5), "x", kind=INT64, shape=(1, 7))
case("Gather-run-time", "Gather", (3, 9), "x", kind=INT64, shape=(1, 7), axis=1)
case("GatherElements", "GatherElements", "x", np.array([[[[0, -1, 2]]]]), axis=3, shape=(1, 1, 1, 6))
case("GatherND", "GatherND", "x", np.array([[0, 1], [0, -1]]))
case(
    "ScatterElements",
    "ScatterElements",
    "x",
    np.array([[1, 4]]),
    f32(9, 8).reshape(1, 2),
    axis=1,
    shape=(1, 6),
)
case("ScatterElements-add", "ScatterElements", "x", np.array([[1, 1]]), f32(9, 8).reshape(1, 2), axis=1, shape=(1, 6),
     reduction="add")  # fmt: skip
case("ScatterND", "ScatterND", "x", np.array([[0, 1], [0, -1]]), f32(9, 8), shape=(1, 6))
case("OneHot", "OneHot", "x", np.array(5, np.int64), f32(0.5, 2), kind=INT64, shape=(1, 7), axis=1)
case("GridSample", "GridSample", "x", (1, 5, 5, 2), mode="bilinear", align_corners=1)
case("GridSample-border", "GridSample", "x", (1, 5, 5, 2), mode="nearest", padding_mode="border")
case("Log", "Log", "x", made=FLOAT)
case("Sqrt", "Sqrt", "x", made=FLOAT)
case("Reciprocal", "Reciprocal", "x")
for op in ("Asin", "Acos", "Acosh", "Atanh"):
    case(op, op, "x")
for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    for direction in ("forward", "reverse", "bidirectional"):
        d, more = (
            (2 if direction == "bidirectional" else 1),
            {"linear_before_reset": 1} if op == "GRU" else {},
        )
        case(f"{op}-{direction}", op, "x", (d, gates * 5, 3), (d, gates * 5, 5), (d, gates * 10), shape=(7, 1, 3),
             hidden_size=5, direction=direction, outputs=2, **more)  # fmt: skip
case(
    "LSTM-no-bias-state",
    "LSTM",
    "x",
    (1, 20, 3),
    (1, 20, 5),
    "",
    "",
    (1, 1, 5),
    (1, 1, 5),
    shape=(7, 1, 3),
    hidden_size=5,
)
case(
    "GRU-reset-first", "GRU", "x", (1, 15, 3), (1, 15, 5), (1, 30), shape=(7, 1, 3), hidden_size=5, outputs=2
)


def _shapes() -> Made:
    """Shape, Size, ConstantOfShape, Range and NonZero: all is known when the file is read."""
    g = Graph(17)
    x = g.input("x", (1, 4, 6, 6))
    shape = g.add("Shape", x, start=1, end=3)
    ones = g.add("ConstantOfShape", shape, value=numpy_tensor())
    count = g.add("Cast", g.add("Size", x), to=FLOAT)
    places = g.add("NonZero", ones)
    length = g.add("ReduceSum", g.add("Cast", places, to=FLOAT), keepdims=0)
    row = g.add("Range", np.float32(0), np.float32(6), np.float32(1))
    total = g.add("Add", g.add("Mul", g.add("Unsqueeze", ones, i64(2)), row), g.add("Div", length, count))
    return g, [g.add("Add", total, x)], [FLOAT]


def numpy_tensor() -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([2.5], np.float32))


CASES["shapes"] = _shapes
COVERED |= {"Shape", "Size", "ConstantOfShape", "Range", "NonZero"}
ELSEWHERE = {
    "DequantizeLinear",
    "RMSNormalization",
    "Swish",
    "Scatter",
    "ReduceLogSum",
}  # below, or newer than
# ONNX Runtime's or the checker's opset here; each is under the proof in every run


def read(name: str, folder: Path) -> tuple[Any, Any, Path]:
    graph, outputs, kinds = CASES[name]()
    path = graph.save(folder / "m.onnx", *outputs, kinds=kinds)
    module, examples = load_onnx(path)
    return module, examples, path


def arrays(made: Any) -> list[np.ndarray]:
    return [y.detach().numpy() for y in ([made] if isinstance(made, torch.Tensor) else made)]


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_operator_computes_what_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    module, examples, path = read(name, tmp_path)
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn(x.shape, generator=generator) if x.is_floating_point() else x for x in examples]
    wanted, found = truth(path, inputs), arrays(module(*inputs))
    for a, b in zip(wanted, found, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_every_operator_has_a_case() -> None:
    assert set(supported_operators()) - COVERED <= ELSEWHERE


FIRST = {}
for _name in sorted(CASES):
    FIRST.setdefault(_name.split("-")[0], _name)


@pytest.mark.parametrize("op", sorted(COVERED - {"Shape", "Size", "ConstantOfShape", "Range", "NonZero"}))
def test_a_reader_that_is_wrong_in_one_operator_does_not_get_through(
    op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = registry.writer_of(op)
    assert right is not None

    def wrong(c: Any) -> Any:
        made = right(c)
        first = made[0] if isinstance(made, tuple) else made
        if first.dtype == torch.bool:
            bad = c.call(torch.logical_not, first)
        else:
            bad = c.call(torch.add, first, 1 if not first.dtype.is_floating_point else 0.01)
        return (bad, *made[1:]) if isinstance(made, tuple) else bad

    monkeypatch.setitem(registry._WRITERS, op, wrong)
    with pytest.raises(CheckError, match="source file == network as read"):
        read(FIRST[op], tmp_path)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_reader_that_forgets_the_opset_does_not_get_through(
    op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = registry.writer_of(op)
    assert right is not None

    def forgetful(c: Any) -> Any:
        c.opset = 13
        return right(c)

    monkeypatch.setitem(registry._WRITERS, op, forgetful)
    with pytest.raises(CheckError, match="differs"):
        read(f"{op}-9-coerced", tmp_path)


@pytest.mark.parametrize(
    ("op", "opset", "attributes", "outputs", "said"),
    [
        ("MaxPool", 12, {"kernel_shape": [2, 2]}, 2, "gives the indices"),
        ("ArgMax", 13, {"select_last_index": 1}, 1, "last of several equal values"),
        ("AveragePool", 12, {"kernel_shape": [9, 9]}, 1, "larger than its input"),
        ("LSTM", 14, {"hidden_size": 5, "clip": 3.0}, 1, "not read: clip = 3.0"),
        ("LSTM", 14, {"hidden_size": 5, "input_forget": 1}, 1, "not read: input_forget = 1"),
        ("LSTM", 14, {"hidden_size": 5, "activations": ["Relu", "Tanh", "Tanh"]}, 1, "relu"),
        ("GatherND", 13, {"batch_dims": 1}, 1, "batch_dims"),
    ],
)
def test_what_is_not_read_is_refused_by_name(
    op: str, opset: int, attributes: dict[str, Any], outputs: int, said: str, tmp_path: Path
) -> None:
    g = Graph(opset)
    weights = {
        "LSTM": [g.weight(1, 20, 6), g.weight(1, 20, 5)],
        "GatherND": [g.store(np.zeros((1, 4, 1), np.int64))],
    }
    shape = (4, 1, 6) if op == "LSTM" else (1, 4, 6) if op == "GatherND" else (1, 4, 6, 6)
    made = g.add(op, g.input("x", shape), *weights.get(op, []), outputs=outputs, **attributes)
    names = [made, *g.nodes[-1].output[1:]]
    kinds = [INT64 if op == "ArgMax" else FLOAT, *[INT64] * (len(names) - 1)]
    with pytest.raises(UnsupportedError, match=said):
        load_onnx(g.save(tmp_path / "m.onnx", *names, kinds=kinds))
