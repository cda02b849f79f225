"""Rewrites for other readers: the same numbers in ONNX Runtime, and only where they are exact."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers.onnx_passes import rewritten
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dtp_edge.onnx.passes.chosen_channels import FEW


def model_of(
    nodes: list[onnx.NodeProto], constants: dict[str, list[int]], shape: list[int], rank: int = 4
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    tensors = [helper.make_tensor(k, TensorProto.INT64, [len(v)], v) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rank=st.integers(3, 5), keep=st.booleans())
def test_mean_is_the_same_whatever_the_axes(data: st.DataObject, rank: int, keep: bool) -> None:
    axes = data.draw(st.lists(st.integers(0, rank - 1), min_size=1, unique=True))
    signed = [a - rank if data.draw(st.booleans()) else a for a in axes]
    shape = [2, 3, 4, 5, 2][:rank]
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=int(keep))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    left = rank if keep else rank - len(axes)
    wanted = run(model_of([node], {"axes": signed}, shape, left), x)
    portable = rewritten(model_of([node], {"axes": signed}, shape, left))
    got = run(portable, x)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    positions = sorted(axes) == list(range(2, rank))
    expected = positions and not (rank == 3 and keep)
    assert ("GlobalAveragePool" in kinds(portable)) == expected


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    step=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    start=st.integers(0, 1),
    short=st.integers(0, 1),
    channel_step=st.integers(1, 2),
)
def test_slice_is_the_same_and_strides_become_one_pool(size, step, start, short, channel_step) -> None:
    shape = [1, 4, *size]
    rows = helper.make_node("Slice", ["x", "start", "end", "rows", "step_rows"], ["a"])
    columns = helper.make_node("Slice", ["a", "zero", "all", "columns", "step_columns"], ["b"])
    channels = helper.make_node("Slice", ["b", "zero", "all", "channels", "step_channels"], ["y"])
    constants = {
        "start": [start],
        "end": [size[0] - short],
        "rows": [2],
        "step_rows": [step[0]],
        "zero": [0],
        "all": [2**31],
        "columns": [-1],
        "step_columns": [step[1]],
        "channels": [1],
        "step_channels": [channel_step],
    }
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    nodes = [rows, columns, channels]
    wanted = run(model_of(nodes, constants, shape), x)
    portable = rewritten(model_of(nodes, constants, shape))
    np.testing.assert_array_equal(run(portable, x), wanted)
    pools = kinds(portable).count("MaxPool")
    whole = start == 0 and short == 0 and step[0] > 1
    assert pools == (1 if whole or step[1] > 1 else 0)
    if channel_step > 1:
        assert kinds(portable)[-1] == "Slice"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rank=st.integers(3, 5), axis=st.sampled_from([0, 1, 2, -1]))
def test_chosen_channels_are_the_same(data: st.DataObject, rank: int, axis: int) -> None:
    shape = [2, 6, 4, 3, 2][:rank]
    size = shape[axis]
    index = data.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=30))
    node = helper.make_node("Gather", ["x", "index"], ["y"], axis=axis)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    portable = rewritten(model_of([node], {"index": index}, shape, rank))
    np.testing.assert_array_equal(run(portable, x), np.take(x, index, axis=axis))
    if axis != 1:
        assert kinds(portable) == ["Gather"]
    if "Gather" in kinds(portable) and axis == 1:
        assert len(index) > FEW


def test_neighbours_stay_together() -> None:
    node = helper.make_node("Gather", ["x", "index"], ["y"], axis=1)
    portable = rewritten(model_of([node], {"index": [4, 5, 6, 7, 0, 1]}, [1, 9, 2, 2]))
    split, concat = portable.graph.node
    assert (split.op_type, len(split.output)) == ("Split", 4)  # 0-1, 2-3, 4-7, 8
    assert (concat.op_type, len(concat.input)) == ("Concat", 2)


def test_new_names_do_not_meet_old_ones() -> None:
    nodes = [
        helper.make_node("Gather", ["x", "index"], ["a"], axis=1),
        helper.make_node("Gather", ["a", "index"], ["a_1"], axis=1),
        helper.make_node("Gather", ["a_1", "index"], ["y"], axis=1),
    ]
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 2)).astype(np.float32)
    portable = rewritten(model_of(nodes, {"index": [1, 0, 2]}, [1, 3, 2, 2]))
    np.testing.assert_array_equal(run(portable, x), x[:, [1, 0, 2]])


def test_what_is_read_twice_or_is_an_output_is_not_merged_away() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], kernel_shape=[1, 1], strides=[2, 1]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[1, 1], strides=[1, 2]),
        helper.make_node("ReduceSum", ["a"], ["s"], keepdims=1),
        helper.make_node("Add", ["b", "s"], ["y"]),
    ]
    x = np.random.default_rng(0).normal(size=(1, 2, 6, 6)).astype(np.float32)
    wanted = run(model_of(nodes, {}, [1, 2, 6, 6]), x)
    portable = rewritten(model_of(nodes, {}, [1, 2, 6, 6]))
    assert kinds(portable).count("MaxPool") == 2
    np.testing.assert_array_equal(run(portable, x), wanted)


def test_unused_constants_go_and_names_stay() -> None:
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    portable = rewritten(model_of([node], {"axes": [2, 3]}, [1, 3, 4, 4], 2))
    assert not portable.graph.initializer
    assert [o.name for o in portable.graph.output] == ["y"]
    assert kinds(portable) == ["GlobalAveragePool", "Flatten"]


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceSum"])
def test_other_reductions_stay(op: str) -> None:
    node = helper.make_node(op, ["x", "axes"], ["y"], keepdims=0)
    assert kinds(rewritten(model_of([node], {"axes": [2, 3]}, [1, 3, 4, 4], 2))) == [op]
