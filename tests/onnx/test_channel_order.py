"""Channel orders that vanish into weights: the same numbers, and no Gather where none is needed."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers.onnx_passes import rewritten
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

KINDS = ("gather", "permute", "split", "concat", "relu", "add", "conv", "depthwise", "bias")


class Builder:
    """Builds x `[2, 6, 5, 5]` -> y, node by node."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.channels = {"x": 6}

    def constant(self, value: np.ndarray) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, op: str, inputs: list[str], channels: list[int], **attributes: object) -> list[str]:
        names = [f"t{len(self.nodes)}_{i}" for i in range(len(channels))]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        self.channels.update(zip(names, channels, strict=True))
        return names

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape).astype(np.float32))

    def conv(self, source: str, out: int, groups: int = 1) -> str:
        c = self.channels[source]
        inputs = [source, self.weight(out, c // groups, 3, 3), self.weight(out)]
        return self.add("Conv", inputs, [out], pads=[1, 1, 1, 1], group=groups)[0]

    def gather(self, source: str, index: list[int]) -> str:
        return self.add("Gather", [source, self.constant(np.array(index))], [len(index)], axis=1)[0]

    def split(self, source: str, sizes: list[int]) -> list[str]:
        return self.add("Split", [source, self.constant(np.array(sizes))], sizes, axis=1)

    def model(self, result: str, rank: int = 4) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Mul", [result, self.constant(np.float32(0.5))], ["y"]))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6, 5, 5])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.constants)
        return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def run(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(2, 6, 5, 5)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def shuffled_blocks(blocks: int, width: int, keep: list[int]) -> Builder:
    """ShuffleNet's stream: one part passes, the other is convolved, both are interleaved."""
    b = Builder()
    passing, worked = b.conv("x", width), b.conv("x", width)
    for _ in range(blocks):
        joined = b.add("Concat", [passing, worked], [b.channels[passing] + b.channels[worked]], axis=1)[0]
        first, total = b.channels[passing], b.channels[joined]
        pairs = [i for p in range(total) for i in (p, first + p) if i < (first if i == p else total)]
        mixed = b.gather(joined, [i for n, i in enumerate(pairs) if n % len(keep) in keep or n < 4])
        half = b.channels[mixed] // 2
        passing, worked = b.split(mixed, [half, b.channels[mixed] - half])
        worked = b.conv(b.conv(worked, b.channels[worked], groups=b.channels[worked]), width)
    joined = b.add("Concat", [passing, worked], [b.channels[passing] + b.channels[worked]], axis=1)[0]
    point = b.add("GlobalAveragePool", [joined], [b.channels[joined]])[0]
    flat = b.add("Flatten", [point], [b.channels[joined]], axis=1)[0]
    b.last = b.add("Gemm", [flat, b.weight(4, b.channels[flat])], [4], transB=1)[0]  # pyright: ignore[reportAttributeAccessIssue]
    return b


@pytest.mark.parametrize("keep", [[0, 1, 2, 3, 4], [0, 1, 3, 4], [0, 2, 3]])
def test_a_shuffled_stream_needs_no_gather(keep: list[int]) -> None:
    b = shuffled_blocks(4, 10, keep)
    model = b.model(b.last, rank=2)  # pyright: ignore[reportAttributeAccessIssue]
    portable = rewritten(model)
    assert kinds(model).count("Gather") == 4
    assert "Gather" not in kinds(portable)
    np.testing.assert_allclose(run(portable), run(model), rtol=1e-4, atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_random_graphs_compute_the_same(data: st.DataObject) -> None:
    b = Builder()
    known = ["x"]
    for _ in range(data.draw(st.integers(3, 12))):
        source = data.draw(st.sampled_from(known))
        c = b.channels[source]
        same = [n for n in known if b.channels[n] == c]
        kind = data.draw(st.sampled_from(KINDS))
        if kind == "gather":
            known.append(
                b.gather(source, data.draw(st.lists(st.integers(-c, c - 1), min_size=1, max_size=9)))
            )
        elif kind == "permute":
            known.append(b.gather(source, data.draw(st.permutations(range(c)))))
        elif kind == "split" and c > 1:
            at = data.draw(st.integers(1, c - 1))
            known += b.split(source, [at, c - at])
        elif kind == "concat" and c < 30:
            other = data.draw(st.sampled_from(known))
            known += b.add("Concat", [source, other], [c + b.channels[other]], axis=1)
        elif kind == "relu":
            known += b.add("Relu", [source], [c])
        elif kind == "add":
            known += b.add("Add", [source, data.draw(st.sampled_from(same))], [c])
        elif kind == "conv":
            known.append(b.conv(source, data.draw(st.integers(1, 9))))
        elif kind == "depthwise":
            known.append(b.conv(source, c, groups=c))
        elif kind == "bias":
            known += b.add("Mul", [source, b.weight(1, c, 1, 1)], [c])
    model = b.model(known[-1])
    wanted, found = run(model), run(rewritten(model))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


def test_where_a_reader_needs_the_old_order_nothing_is_lost() -> None:
    b = Builder()
    mixed = b.gather("x", [3, 0, 5, 1, 4, 2])
    soft = b.add("Softmax", [mixed], [6], axis=1)[0]  # reads channels as they come
    model = b.model(soft)
    portable = rewritten(model)
    np.testing.assert_array_equal(run(portable), run(model))


def test_an_output_keeps_its_channels_in_order() -> None:
    b = Builder()
    b.nodes.append(helper.make_node("Gather", ["x", b.constant(np.array([3, 0, 5, 1, 4, 2]))], ["y"], axis=1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6, 5, 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 6, 5, 5])
    graph = helper.make_graph(b.nodes, "g", [x], [y], b.constants)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    np.testing.assert_array_equal(run(rewritten(model)), run(model))


def test_a_vector_looked_up_by_number_is_a_reshape() -> None:
    b = Builder()
    flat = b.add("Reshape", ["x", b.constant(np.array([-1]))], [300])[0]
    known = b.add("Gather", [flat, b.constant(np.arange(300).reshape(4, 75))], [75], axis=0)[0]
    model = b.model(known, rank=2)
    portable = rewritten(model)
    assert kinds(portable) == ["Reshape", "Reshape", "Mul"]
    np.testing.assert_array_equal(run(portable), run(model))
    b = Builder()
    flat = b.add("Reshape", ["x", b.constant(np.array([-1]))], [300])[0]
    part = b.add("Gather", [flat, b.constant(np.arange(100).reshape(4, 25))], [25], axis=0)[0]
    assert "Gather" in kinds(rewritten(b.model(part, rank=2)))
