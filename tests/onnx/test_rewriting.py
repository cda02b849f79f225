"""Passes: found by themselves, in order, left out or refused by their promises; the rest of a file stays."""

from __future__ import annotations

import importlib

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from helpers.onnx_passes import rewritten
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes import PassResult, PostconditionError, PreconditionError

from dtp_edge.errors import CheckError
from dtp_edge.int8.case import Int8Case, Int8Rewrite
from dtp_edge.onnx import export as to_onnx
from dtp_edge.onnx import export_onnx
from dtp_edge.onnx.passes.chosen_channels import ChosenChannels
from dtp_edge.onnx.passes.flushed_subnormals import FlushedSubnormals
from dtp_edge.onnx.passes.fusable_gelu import FusableGelu
from dtp_edge.onnx.passes.merged_strides import MergedStrides
from dtp_edge.onnx.passes.pooled_mean import PooledMean
from dtp_edge.onnx.passes.strided_slice import StridedSlice
from dtp_edge.onnx.passes.unused_constants import UnusedConstants
from dtp_edge.onnx.rewriting import Rewrite, find_passes, run_passes

ONNX, INT8 = "dtp_edge.onnx.passes", "dtp_edge.int8.passes"
NEW_PASS = '''
"""Hard-swish by its parts: a reader that we made up lacks the operator."""
import onnx_ir as ir
from dtp_edge.onnx.rewriting import Maker, NodeRewrite, node

class PlainHardSwish(NodeRewrite):
    op_type, after, opset = "HardSwish", ("pooled_mean",), 14

    def match(self, node):
        return True

    def build(self, swish, found, make):
        gate = make.value(f"{swish.outputs[0].name}_gate")
        return [
            node("HardSigmoid", swish.inputs, [gate], "", alpha=1 / 6),
            node("Mul", [swish.inputs[0], gate], [ir.Value()], swish.name),
        ]
'''


def model_of(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 18,
    rank: int = 4,
) -> onnx.ModelProto:
    """x `[1, 4, 6, 6]` -> y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "net", [x], [y], stored)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])


def run(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


def test_every_pass_says_why_and_runs_after_those_it_names() -> None:
    for package, count in ((ONNX, 10), (INT8, 3)):
        passes = find_passes(package, Rewrite)
        files = [kind.__module__.rpartition(".")[2] for kind in passes]
        assert len(set(files)) == count
        for kind, file in zip(passes, files, strict=True):
            title, _, reason = (importlib.import_module(kind.__module__).__doc__ or "").partition("\n\n")
            assert title, file
            assert reason, file
            assert set(kind.after) <= set(files[: files.index(file)]), file


def test_a_pass_is_added_by_one_new_file(tmp_path, monkeypatch) -> None:
    (tmp_path / "plain_hard_swish.py").write_text(NEW_PASS)
    package = importlib.import_module(ONNX)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Hardswish()).eval()
    x = torch.randn(1, 3, 8, 8)
    path = export_onnx(network, x, tmp_path / "n.onnx")
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds == ["Conv", "HardSigmoid", "Mul"]
    (found,) = ort.InferenceSession(str(path)).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, network(x).detach().numpy(), atol=1e-5)


def test_metadata_opset_names_and_texts_stay() -> None:
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["y"], name="mean", doc_string="why", keepdims=1)
    model = model_of(
        [mean, helper.make_node("Relu", ["x"], ["z"], doc_string="keep")], {"axes": np.array([2, 3])}
    )
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, "h", 6]))
    model.graph.input[0].doc_string = "pixels"
    helper.set_model_props(model, {"names": "['cat', 'dog']", "stride": "32"})
    model.producer_name, model.doc_string, model.domain, model.model_version = "maker", "text", "org", 7
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    new = rewritten(model)
    assert [n.op_type for n in new.graph.node] == ["GlobalAveragePool", "Relu"]
    assert new.graph.node[1].SerializeToString() == model.graph.node[1].SerializeToString()
    assert (new.graph.input, new.graph.output) == (model.graph.input, model.graph.output)
    for part in (new, model):
        part.graph.Clear()
    assert new == model


def test_a_constant_that_only_a_subgraph_reads_stays() -> None:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 4, 6, 6])
    branches = [
        helper.make_graph([helper.make_node("Mul", ["x", name], ["o"])], name, [], [out])
        for name in ("a", "b")
    ]
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branches[0], else_branch=branches[1])
    constants = {"yes": np.array(True), "a": np.float32(2), "b": np.float32(3), "unread": np.float32(4)}
    model = model_of([node], constants)
    new = rewritten(model)
    assert {i.name for i in new.graph.initializer} == {"yes", "a", "b"}
    np.testing.assert_array_equal(run(new), run(model))


def test_channels_that_a_subgraph_reads_keep_their_order() -> None:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 4, 6, 6])
    branches = [
        helper.make_graph([helper.make_node(op, ["mixed"], ["o"])], op, [], [out]) for op in ("Relu", "Neg")
    ]
    nodes = [
        helper.make_node("Gather", ["x", "index"], ["mixed"], axis=1),
        helper.make_node("Conv", ["mixed", "w"], ["c"], name="conv"),
        helper.make_node("If", ["yes"], ["d"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    weight = np.random.default_rng(1).normal(size=(4, 4, 1, 1)).astype(np.float32)
    model = model_of(nodes, {"index": np.array([2, 0, 3, 1]), "w": weight, "yes": np.array(True)})
    np.testing.assert_allclose(run(rewritten(model)), run(model), atol=1e-5)


def test_new_names_give_way_to_those_of_the_file() -> None:
    """A network may have any names, those of the passes too."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        helper.make_node("Neg", ["m"], ["m_pooled"]),
        helper.make_node("Add", ["m", "m_pooled"], ["s"]),
        helper.make_node("Gather", ["x", "s_sizes"], ["c"], axis=1),
        helper.make_node("ReduceMean", ["c", "axes"], ["c_sizes"], keepdims=0),
        helper.make_node("Add", ["s", "c_sizes"], ["y"]),
    ]
    model = model_of(nodes, {"axes": np.array([2, 3]), "s_sizes": np.array([1, 0, 3, 2])}, rank=2)
    new = rewritten(model)
    assert "ReduceMean" not in {n.op_type for n in new.graph.node}
    np.testing.assert_allclose(run(new), run(model), atol=1e-6)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_older_opsets_get_what_they_have(opset: int) -> None:
    """Split takes its sizes as an input from 13 on; below, the pass is left out. Means have `axes` there."""
    nodes = [
        helper.make_node("Gather", ["x", "index"], ["g"], axis=1),
        helper.make_node("ReduceMean", ["g"], ["y"], axes=[2, 3], keepdims=1),
    ]
    model = model_of(nodes, {"index": np.array([3, 1, 0, 2])}, opset)
    new = rewritten(model)
    kinds = [n.op_type for n in new.graph.node]
    assert kinds[-1] == "GlobalAveragePool"
    assert ("Gather" in kinds) == (opset < 13)
    np.testing.assert_allclose(run(new), run(model), atol=1e-6)


class Untidy(Rewrite):
    """Moves the first node to the end."""

    def call(self, model: ir.Model) -> PassResult:
        node = model.graph[0]
        model.graph.remove(node)
        model.graph.append(node)
        return PassResult(model, True)


def test_a_broken_promise_is_no_file() -> None:
    model = model_of(
        [helper.make_node("Relu", ["x"], ["a"], name="first"), helper.make_node("Neg", ["a"], ["y"])]
    )
    with pytest.raises(CheckError, match=r"Untidy broke its promise.*reads 'a' before it is made"):
        run_passes(model, [Untidy()])


MEAN = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)]
GATHER = [helper.make_node("Gather", ["x", "index"], ["y"], axis=1)]
SLICE = [helper.make_node("Slice", ["x", "zero", "all", "rows", "two"], ["y"])]
POOL = {"kernel_shape": [1, 1], "strides": [2, 2]}
POOLS = [helper.make_node("MaxPool", ["x"], ["a"], **POOL), helper.make_node("MaxPool", ["a"], ["y"], **POOL)]
GELU = [
    helper.make_node("Erf", ["x"], ["e"]),
    helper.make_node("Add", ["e", "one"], ["p"]),
    helper.make_node("Mul", ["half", "p"], ["h"]),
    helper.make_node("Mul", ["x", "h"], ["y"]),
]
NUMBERS = {"zero": np.array([0]), "all": np.array([99]), "rows": np.array([2]), "two": np.array([2])}
PROMISES = [
    (PooledMean, MEAN, {"axes": np.array([2, 3])}),
    (ChosenChannels, GATHER, {"index": np.array([1, 0, 3, 2])}),
    (StridedSlice, SLICE, NUMBERS),
    (MergedStrides, POOLS, {}),
    (FusableGelu, GELU, {"one": np.float32(1), "half": np.float32(0.5)}),
    (
        FlushedSubnormals,
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        {"k": np.full((1, 4, 1, 1), 1e-40, "f")},
    ),
    (UnusedConstants, [helper.make_node("Relu", ["x"], ["y"])], {"k": np.float32(1)}),
]


@pytest.mark.parametrize(("kind", "nodes", "constants"), PROMISES, ids=[p[0].__name__ for p in PROMISES])
def test_each_promise_is_broken_before_and_kept_after(kind, nodes, constants) -> None:
    model = model_of(nodes, constants)
    graph, step = ir.from_proto(model), kind()
    step.requires(graph)
    with pytest.raises(PostconditionError):
        step.ensures(graph)
    assert step(graph).modified
    step.ensures(graph)
    assert not step(graph).modified
    np.testing.assert_allclose(run(ir.to_proto(graph)), run(model), atol=1e-6)


def test_int8_passes_are_left_out_where_scales_stay_fine() -> None:
    model = ir.from_proto(model_of([helper.make_node("Relu", ["x"], ["y"])]))
    left = []
    for kind in find_passes(INT8, Int8Rewrite):
        try:
            kind(Int8Case()).requires(model)
        except PreconditionError:
            left.append(kind.__name__)
    assert left == ["PartedMeans", "SharedScales"]


def test_a_network_too_large_for_one_message_has_its_weights_beside_it(tmp_path, monkeypatch) -> None:
    """Weights above the limit leave the file; passes, names and metadata are the same there."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3), torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(1)
    ).eval()
    x = torch.randn(1, 3, 8, 8)
    inline = export_onnx(network, x, tmp_path / "inline.onnx", metadata={"a": "b"})
    monkeypatch.setattr(to_onnx, "_INLINE_LIMIT_BYTES", 100)
    path = export_onnx(network, x, tmp_path / "large.onnx", metadata={"a": "b"})
    assert (tmp_path / "large.onnx.data").stat().st_size >= 64 * 3 * 9 * 4
    stored = onnx.load(path, load_external_data=False).graph.initializer
    assert TensorProto.EXTERNAL in {i.data_location for i in stored}
    models = [onnx.load(path), onnx.load(inline)]
    assert models[0].metadata_props == models[1].metadata_props
    assert [n.op_type for n in models[0].graph.node][-1] == "GlobalAveragePool"
    results = [ort.InferenceSession(str(p)).run(None, {"input": x.numpy()})[0] for p in (path, inline)]
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
