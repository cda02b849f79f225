# ruff: noqa: E501 (random graphs: one operator a line)
"""ONNX in, ONNX out: names, types, metadata and sizes; odd and hostile files; random graphs under the proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from helpers.onnx_graphs import FLOAT, INT64, Graph, truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import dtp_edge as dtp
from dtp_edge.errors import CheckError, InputError, UnsupportedError
from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.onnx.interface import interface_of, source_checks
from dtp_edge.onnx.reader import load_onnx, registry, supported_operators

DEVICE = "rpi4-ncnn-fp32-1t"


def small(path: Path, kind: int = FLOAT, *, image: str = "image.1", size: Any = (1, 3, 16, 16)) -> Path:
    """A network of two convolutions that reads `kind` and gives `heat map` and `scores`."""
    g = Graph(17)
    x = g.input(image, size, kind)
    half = kind == TensorProto.FLOAT16
    wide = x if kind in (FLOAT, TensorProto.FLOAT16) else g.add("Cast", x, to=FLOAT)

    def stored(*shape: int) -> str:
        value = (g.rng.standard_normal(shape) * 0.3).astype(np.float16 if half else np.float32)
        return g.store(value)

    a = g.add("Relu", g.add("Conv", wide, stored(24, 3, 3, 3), stored(24), pads=[1, 1, 1, 1], strides=[2, 2]))
    heat = g.add("Conv", a, stored(5, 24, 1, 1), name="heat map")
    scores = g.add("Softmax", g.add("GlobalAveragePool", heat), name="scores", axis=1)
    float_kind = TensorProto.FLOAT16 if half else FLOAT
    model = g.model(heat, scores, kinds=[float_kind, float_kind])
    helper.set_model_props(model, {"names": "{0: 'cat'}", "stride": "2"})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", [FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT32, INT64])
def test_names_types_and_metadata_of_the_users_file_are_kept(kind: int, tmp_path: Path) -> None:
    source = small(tmp_path / "in.onnx", kind)
    module, examples = load_onnx(source)
    result = dtp.prune_for_device(
        module, examples, device=DEVICE, budget=dtp.Budget(params="60%"), out=tmp_path / "out"
    )
    before, after = (ort.InferenceSession(str(p)) for p in (source, result.onnx))
    for ports in ("get_inputs", "get_outputs"):
        old, new = getattr(before, ports)(), getattr(after, ports)()
        assert [(p.name, p.type, p.shape) for p in old] == [(p.name, p.type, p.shape) for p in new]
    kept = after.get_modelmeta().custom_metadata_map
    assert (kept["names"], kept["stride"]) == ("{0: 'cat'}", "2")
    assert "source file == network as read" in [c["name"] for c in result.report["checks"]]
    assert any(kept < total for kept, total in result.widths.values())
    found = truth(result.onnx, [x.numpy() for x in examples])  # type: ignore[arg-type]
    assert [y.dtype for y in found] == [y.dtype for y in truth(source, [x.numpy() for x in examples])]
    with torch.no_grad():
        wanted = result.masked(*examples)
    for a, b in zip(wanted, found, strict=True):
        narrow = kind == TensorProto.FLOAT16
        scale = np.abs(a.numpy()).max()
        np.testing.assert_allclose(b, a.numpy(), rtol=0, atol=(1e-3 if narrow else 1e-5) * scale)


def test_double_is_kept(tmp_path: Path) -> None:
    g = Graph(17)
    x = g.input("x", (1, 8), TensorProto.DOUBLE)
    hidden = g.add("Relu", g.add("MatMul", x, g.store(g.rng.standard_normal((8, 24)))))
    y = g.add("MatMul", hidden, g.store(g.rng.standard_normal((24, 4))), name="y")
    path = g.save(tmp_path / "in.onnx", y, kinds=[TensorProto.DOUBLE])
    module, examples = load_onnx(path)
    assert module(*examples).dtype == torch.float64
    assert source_checks(module)[0].value < 1e-12


def test_free_sizes_are_named_and_what_was_fixed_is_said(tmp_path: Path) -> None:
    source = small(tmp_path / "in.onnx", size=("batch", 3, "height", "width"))
    with pytest.raises(InputError, match="leaves the size"):
        load_onnx(source)
    with pytest.raises(InputError, match="no input 'picture'"):
        load_onnx(source, {"picture": (3, 16, 16)})
    module, examples = load_onnx(source, {"image.1": (3, 16, 20)})
    assert examples[0].shape == (1, 3, 16, 20)
    interface = interface_of(module)
    assert interface is not None
    assert ["fixed at [1, 3, 16, 20]" in note for note in interface.notes] == [True]


def test_a_size_reaches_every_input_that_has_its_name(tmp_path: Path) -> None:
    g = Graph(17)
    x, y = g.input("x", ("batch", "steps", 4)), g.input("y", (2, "batch", "steps"))
    out = g.add("Add", g.add("ReduceSum", x, g.store(np.array([2])), keepdims=0), y)
    _, examples = load_onnx(g.save(tmp_path / "m.onnx", out), (7, 4))
    assert [tuple(e.shape) for e in examples] == [(1, 7, 4), (2, 1, 7)]


class Keys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 24, 3), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.ReLU())
        self.z, self.a = nn.Conv2d(24, 4, 1), nn.Conv2d(24, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.body(x)
        return {"zebra": self.z(features), "apple": self.a(features)}


def test_keys_of_outputs_are_their_names_in_their_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = dtp.prune_for_device(
        Keys().eval(),
        torch.randn(1, 3, 12, 12),
        device=DEVICE,
        budget=dtp.Budget(params="60%"),
        out=tmp_path / "o",
    )
    session = ort.InferenceSession(str(result.onnx))
    assert [(o.name, o.shape[1]) for o in session.get_outputs()] == [("zebra", 4), ("apple", 2)]
    again = dtp.load_pruned(tmp_path / "o")(torch.randn(1, 3, 12, 12))
    assert [(k, v.shape[1]) for k, v in again.items()] == [("zebra", 4), ("apple", 2)]


class Various(nn.Module):
    """Operators whose form changed between opsets: layer norm, reductions, padding, resizing, splitting."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.interpolate(nn.functional.pad(self.conv(x), (1, 0, 0, 1)), scale_factor=2.0)
        a, b = y.relu().split([3, 5], 1)
        tokens = torch.cat([a.sigmoid(), nn.functional.gelu(b)], 1).flatten(2).transpose(1, 2)
        return self.head(self.norm(tokens).mean(1)).softmax(-1)


@pytest.mark.parametrize("opset", range(12, 21))
def test_a_file_in_every_opset(opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Various().eval(), torch.randn(1, 3, 10, 10)
    path = export_onnx(net, x, tmp_path / "m.onnx", opset=opset)
    assert {o.domain: o.version for o in onnx.load(path).opset_import}[""] == opset
    assert check_onnx(path, net, x).passed
    found = truth(path, [x.numpy()])[0]
    np.testing.assert_allclose(found, net(x).detach().numpy(), atol=1e-5)
    module, _ = load_onnx(path)  # and the reader reads what it is
    np.testing.assert_allclose(module(x).detach().numpy(), found, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 21])
def test_an_opset_that_is_not_written(opset: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"opset {opset} is not written"):
        export_onnx(nn.Linear(2, 2), torch.randn(1, 2), tmp_path / "m.onnx", opset=opset)


NAMES = [
    ("in", "w", "b", "y"), ("from", "class.weight", "class.bias", "import"), ("x", "w", "w.b", "w_"), ("self", "training", "b", "y"),
    ("weight", "_parameters.w", "a.training", "bias"), ("input_0", "graph", "meta.code", "conv2d"), ("x:0", "块/权重", "0.b", "y z"),
]  # fmt: skip


@pytest.mark.parametrize("names", NAMES)
def test_any_names_are_read_and_given_back(names: tuple[str, str, str, str], tmp_path: Path) -> None:
    x, w, b, y = names
    g = Graph(17)
    g.input(x, (1, 3, 8, 8))
    hidden = g.add("Relu", g.add("Conv", x, g.weight(16, 3, 3, 3, name=w), g.weight(16, name=b)))
    path = g.save(tmp_path / "m.onnx", g.add("Conv", hidden, g.weight(4, 16, 1, 1), name=y))
    module, examples = load_onnx(path)
    result = dtp.prune_for_device(
        module, examples, device=DEVICE, budget=dtp.Budget(params="60%"), out=tmp_path / "out"
    )
    session = ort.InferenceSession(str(result.onnx))
    assert [p.name for p in (*session.get_inputs(), *session.get_outputs())] == [x, y]
    dtp.load_pruned(tmp_path / "out")(*examples)


def _huge_expand(g: Graph) -> str:
    wide = g.add("Expand", np.zeros((1, 1), np.float32), np.array([100_000, 100_000], np.int64))
    return g.add("Add", g.input("x", (1, 4)), g.add("ReduceSum", wide))


def _huge_sum(g: Graph) -> str:
    column, row = np.zeros((100_000, 1), np.float32), np.zeros((1, 100_000), np.float32)
    return g.add("Add", g.input("x", (1, 4)), g.add("ReduceSum", g.add("Add", column, row)))


def _huge_fill(g: Graph) -> str:
    filled = g.add("ConstantOfShape", np.array([10**5, 10**5], np.int64))
    return g.add("Add", g.input("x", (1, 4)), g.add("ReduceSum", filled))


def _huge_range(g: Graph) -> str:
    row = g.add("Range", np.float32(0), np.float32(1e10), np.float32(1))
    return g.add("Add", g.input("x", (1, 4)), g.add("ReduceSum", row))


def _huge_tile(g: Graph) -> str:
    return g.add("Tile", g.input("x", (1, 4)), np.array([10**5, 10**5], np.int64))


def _huge_input(g: Graph) -> str:
    return g.add("Relu", g.input("x", (1, 3, 10**6, 10**6)))


@pytest.mark.parametrize("make", [_huge_expand, _huge_sum, _huge_fill, _huge_range, _huge_tile, _huge_input])
def test_sizes_are_bounded_before_anything_is_made(make: Any, tmp_path: Path) -> None:
    g = Graph(17)
    made = make(g)
    graph = helper.make_graph(
        g.nodes, "g", g.inputs, [helper.make_tensor_value_info(made, 1, ["a", "b"])], g.stored
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "m.onnx",
    )
    with pytest.raises(UnsupportedError, match="would hold"):
        load_onnx(tmp_path / "m.onnx")


def test_a_file_without_inputs_and_one_with_a_scalar(tmp_path: Path) -> None:
    g = Graph(17)
    with pytest.raises(InputError, match="has no input"):
        load_onnx(g.save(tmp_path / "none.onnx", g.add("Relu", np.zeros(3, np.float32))))
    g = Graph(17)
    y = g.add("Mul", g.input("x", (1, 4)), g.input("gain", ()))
    module, examples = load_onnx(g.save(tmp_path / "scalar.onnx", y))
    assert [tuple(e.shape) for e in examples] == [(1, 4), ()]
    np.testing.assert_allclose(module(*examples), truth(tmp_path / "scalar.onnx", examples)[0])


def test_infinite_constants_are_no_weights(tmp_path: Path) -> None:
    g = Graph(17)
    mask = np.array([0, -np.inf, 0, -np.inf], np.float32)
    y = g.add("Softmax", g.add("Add", g.add("MatMul", g.input("x", (1, 8)), g.weight(8, 4)), mask))
    module, examples = load_onnx(g.save(tmp_path / "m.onnx", y))
    assert all(t.isfinite().all() for t in module.state_dict().values())
    assert (module(*examples)[0, [1, 3]] == 0).all()


def test_a_branch_is_taken_where_the_condition_is_known_and_both_where_it_is_not(tmp_path: Path) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, FLOAT, [1, 4])
        return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [out])

    for known in (True, False):
        g = Graph(17)
        g.input("x", (1, 4))
        source = np.ones((), np.float32) if known else g.add("ReduceSum", "x", keepdims=0)
        condition = g.add("Greater", source, np.zeros((), np.float32))
        y = g.add("If", condition, then_branch=branch("a", "Exp"), else_branch=branch("b", "Neg"))
        module, _ = load_onnx(g.save(tmp_path / "m.onnx", y))
        for x in (torch.ones(1, 4), -torch.ones(1, 4)):
            np.testing.assert_allclose(module(x), truth(tmp_path / "m.onnx", [x])[0], rtol=1e-6)


def test_a_quantised_file_is_dequantised_and_says_so(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Feed(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(
                [
                    {"image.1": np.random.default_rng(i).standard_normal((1, 3, 16, 16)).astype("f")}
                    for i in range(4)
                ]
            )

        def get_next(self) -> Any:
            return next(self.rows, None)

    small(tmp_path / "in.onnx")
    quantize_static(
        str(tmp_path / "in.onnx"), str(tmp_path / "q.onnx"), Feed(), quant_format=QuantFormat.QDQ,
        per_channel=True, weight_type=QuantType.QInt8,
    )  # fmt: skip
    module, examples = load_onnx(tmp_path / "q.onnx")
    original, _ = load_onnx(tmp_path / "in.onnx")
    interface = interface_of(module)
    assert interface is not None
    assert interface.check is not None
    assert any("quantised file" in note for note in interface.notes)
    assert "the quantised file itself is" in interface.check.detail
    for a, b in zip(module(*examples), original(*examples), strict=True):
        assert 0 < (a - b).abs().max() < 0.1 * b.abs().max()


# Random graphs: any operator of the reader that has one form for every shape, in opsets 9 to 21.
UNARY = [
    "Relu",
    "Sigmoid",
    "Tanh",
    "Erf",
    "Softplus",
    "Neg",
    "Abs",
    "Sin",
    "Selu",
    "Elu",
    "LeakyRelu",
    "HardSigmoid",
    "Sign",
    "Floor",
]


def grow(draw: Any, g: Graph, value: str) -> str:
    """Add one random operator behind `value`, of rank 4."""
    _, channels, height, width = g.shape(value)
    kind = draw(
        st.sampled_from(
            [
                "unary",
                "conv",
                "pool",
                "softmax",
                "reduce",
                "pad",
                "resize",
                "transpose",
                "concat",
                "slice",
                "binary",
                "norm",
                "shuffle",
                "scan",
            ]
        )
    )
    if kind == "unary":
        return g.add(draw(st.sampled_from(UNARY)), value)
    if kind == "conv":
        out = draw(st.integers(1, 6))
        return g.add(
            "Conv",
            value,
            g.weight(out, channels, 1, 1),
            g.weight(out),
            auto_pad=draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"])),
            strides=[draw(st.integers(1, 2))] * 2,
        )
    if kind == "pool" and height > 1 and width > 1:
        op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
        counted = {"count_include_pad": draw(st.integers(0, 1))} if op == "AveragePool" else {}
        return g.add(
            op,
            value,
            kernel_shape=[2, 2],
            strides=[draw(st.integers(1, 2)), 1],
            pads=draw(st.sampled_from([[0] * 4, [1, 0, 0, 1], [1, 1, 1, 1]])),
            **counted,
        )
    if kind == "softmax":
        return g.add(draw(st.sampled_from(["Softmax", "LogSoftmax"])), value, axis=draw(st.integers(1, 3)))
    if kind == "reduce":
        op = draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceL2", "ReduceMin"]))
        axes = [draw(st.integers(1, 3))]
        return g.add(op, value, g.store(np.array(axes))) if g.opset >= 18 else g.add(op, value, axes=axes)
    if kind == "pad":
        pads, fill = (
            [0, *draw(st.lists(st.integers(0, 2), min_size=3, max_size=3)), 0, 0, 1, 0],
            np.float32(0.5),
        )
        if g.opset < 11:
            return g.add("Pad", value, pads=pads, value=float(fill))
        return g.add("Pad", value, np.array(pads), fill)
    if kind == "resize":
        scales = np.array([1, 1, draw(st.sampled_from([0.7, 2.0, 1.5])), 2.0], np.float32)
        mode = draw(st.sampled_from(["nearest", "linear"]))
        if g.opset < 10:
            return g.add("Upsample", value, np.maximum(scales, 1), mode=mode)
        if g.opset < 11:
            return g.add("Resize", value, scales, mode="nearest")
        how = draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]))
        return g.add(
            "Resize", value, np.zeros(0, np.float32), scales, mode=mode, coordinate_transformation_mode=how
        )
    if kind == "transpose":
        return g.add("Transpose", value, perm=[0, *draw(st.permutations([1, 2, 3]))])
    if kind == "concat":
        return g.add("Concat", value, g.add("Relu", value), axis=draw(st.integers(1, 3)))
    if kind == "slice":
        start, step = draw(st.integers(0, width - 1)), draw(st.integers(1, 2))
        if g.opset < 10:
            return g.add("Slice", value, axes=[3], starts=[start], ends=[width + 3])
        return g.add(
            "Slice", value, np.array([start]), np.array([width + 3]), np.array([-1]), np.array([step])
        )
    if kind == "binary":
        other = draw(st.sampled_from([(channels, 1, 1), (1, width), (1,), (1, channels, height, width)]))
        return g.add(draw(st.sampled_from(["Add", "Mul", "Sub", "Max", "Min"])), value, g.weight(*other))
    if kind == "norm":
        return g.add("InstanceNormalization", value, g.weight(channels), g.weight(channels))
    if kind == "shuffle" and height % 2 == 0 and width % 2 == 0:
        return g.add("SpaceToDepth", value, blocksize=2)
    if kind == "scan" and g.opset >= 11:
        return g.add("CumSum", value, np.array(draw(st.integers(1, 3))), reverse=draw(st.integers(0, 1)))
    return g.add("Relu", value)


@st.composite
def graphs(draw: Any) -> tuple[Graph, str]:
    g = Graph(draw(st.integers(9, 21)), seed=draw(st.integers(0, 99)))
    value = g.add(
        "Conv", g.input("x", (1, 3, draw(st.integers(2, 7)), draw(st.integers(2, 7)))), g.weight(4, 3, 1, 1)
    )
    for _ in range(draw(st.integers(1, 5))):
        value = grow(draw, g, value)
    return g, value


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_random_graphs_are_read_as_what_they_are(tmp_path: Path, made: tuple[Graph, str]) -> None:
    g, value = made
    path = g.save(tmp_path / "m.onnx", value)
    module, _ = load_onnx(path)
    x = torch.randn([d.dim_value for d in g.inputs[0].type.tensor_type.shape.dim])
    wanted, found = truth(path, [x])[0], module(x).detach().numpy()
    assert wanted.shape == found.shape
    assert np.abs(wanted - found).max() <= 1e-4 * max(np.abs(wanted).max(), 1e-3)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs(), st.data())
def test_random_graphs_read_wrong_in_one_operator_do_not_get_through(
    tmp_path: Path, made: tuple[Graph, str], data: Any
) -> None:
    g, value = made
    path = g.save(tmp_path / "m.onnx", value)
    last = g.nodes[-1].op_type
    right = registry.writer_of(last)
    assert right is not None
    assert last in supported_operators()

    def wrong(c: Any) -> Any:
        made = right(c)
        return c.call(torch.add, c.call(torch.mul, made, 1.01), 0.01) if c.node.output[0] == value else made

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._WRITERS, last, wrong)
        with pytest.raises(CheckError, match="source file == network as read"):
            load_onnx(path)


def test_weights_that_two_layers_share_stay_one(tmp_path: Path) -> None:
    g = Graph(17)
    table = g.weight(20, 16)
    embedded = g.add("Gather", table, g.input("ids", (1, 5), INT64))
    logits = g.add("MatMul", embedded, g.add("Transpose", table, perm=[1, 0]))
    module, _ = load_onnx(g.save(tmp_path / "m.onnx", logits))
    assert sum(p.numel() for p in module.parameters()) == 20 * 16
    assert numpy_helper.to_array(g.stored[0]).shape == (20, 16)


def test_composed_operators_that_cannot_be_written_out_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["z"], axis=7),
        helper.make_node("SoftmaxCrossEntropyLoss", ["z", "x"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, FLOAT, [1, 3, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match="cannot be written out"):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("operator", "given"),
    [
        ("MaxPool", {"kernel_shape": [3, 2], "strides": [0, 2]}),
        ("MaxPool", {"kernel_shape": [3, 2], "strides": [2**31, 2]}),
        ("MaxPool", {"kernel_shape": [0, 2]}),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2]}),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [-1, 1]}),
        ("Conv", {"strides": [0, 1]}),
        ("Conv", {"dilations": [1, 0]}),
        ("ConvTranspose", {"strides": [1, 0]}),
    ],
)
def test_windows_that_stand_still_are_refused_by_name(
    operator: str, given: dict[str, Any], tmp_path: Path
) -> None:
    g = Graph(17)
    x = g.input("x", (1, 4, 8, 8), FLOAT)
    more = (g.store(np.ones((4, 4, 3, 3), dtype=np.float32)),) if operator.startswith("Conv") else ()
    benign = {} if more else {"kernel_shape": [2, 2]}
    model = g.model(g.add(operator, x, *more, **benign))
    node = model.graph.node[-1]
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in given.items())
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError):
        load_onnx(tmp_path / "m.onnx")


def test_a_file_that_onnx_runtime_cannot_run_is_a_bad_input(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """Its bias has the shape of the weight, which only the run looks at."""
    g = Graph(17)
    x = g.input("x", (1, 4, 8, 8), FLOAT)
    weight = np.ones((4, 4, 3, 3), dtype=np.float32)
    onnx.save(g.model(g.add("Conv", x, g.store(weight), g.store(weight))), tmp_path / "m.onnx")
    with pytest.raises(InputError) as caught:
        load_onnx(tmp_path / "m.onnx")
    assert caught.value.exit_code == 2
    assert capfd.readouterr().err == ""
