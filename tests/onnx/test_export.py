"""The ONNX file: versions, names, batch, determinism, subnormals, atomic writing, parity."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from helpers.export_structures import STRUCTURES
from onnx import TensorProto, numpy_helper

from benchmarks.problems.keeps import random_keep
from dtp_edge.errors import CheckError, InputError, UnsupportedError
from dtp_edge.graph import trace_network
from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.onnx import export as to_onnx
from dtp_edge.proof import Check, require
from dtp_edge.proof.equality import randomise_tensors
from dtp_edge.surgery import compact, relative_error


def _net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()


def test_versions_names_metadata_and_no_trace_of_this_machine(tmp_path):
    path = export_onnx(
        _net(), torch.randn(2, 3, 8, 8), tmp_path / "m.onnx",
        input_names=["image"], output_names=["features"], metadata={"b": "2", "a": "1"},
    )  # fmt: skip
    model = onnx.load(path)
    assert {o.domain: o.version for o in model.opset_import}[""] == 18
    assert model.ir_version == 10
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["features"]
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]
    assert [(m.key, m.value) for m in model.metadata_props] == [("a", "1"), ("b", "2")]
    assert b"site-packages" not in path.read_bytes()
    assert "BatchNormalization" not in {n.op_type for n in model.graph.node}


def test_same_input_same_bytes(tmp_path):
    x = torch.randn(1, 3, 8, 8)
    first = export_onnx(_net(), x, tmp_path / "a.onnx").read_bytes()
    assert export_onnx(_net(), x, tmp_path / "b.onnx").read_bytes() == first


@pytest.mark.parametrize("limit", [10_000, 1_000_000])
def test_weights_lie_beside_the_file_only_above_the_limit_of_a_message(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(to_onnx, "_INLINE_LIMIT_BYTES", limit)  # 2 GB in life, more than CI has to spare
    torch.manual_seed(0)
    net, x = torch.nn.Linear(64, 64).eval(), torch.randn(1, 64)  # 16,640 bytes of weights
    path = export_onnx(net, x, tmp_path / "m.onnx", metadata={"a": "1"})
    stored = onnx.load(path, load_external_data=False).graph.initializer
    outside = [t.name for t in stored if t.data_location == TensorProto.EXTERNAL]
    found = {f.name: f.stat().st_size for f in tmp_path.iterdir()}
    if limit > 100_000:
        assert (set(found), outside) == ({"m.onnx"}, [])
    else:
        assert set(found) == {"m.onnx", "m.onnx.data"}
        assert found["m.onnx"] < 10_000 < found["m.onnx.data"]
        assert outside == ["weight"]
    assert check_onnx(path, net, x).passed
    first = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    export_onnx(net, x, path, metadata={"a": "1"})
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == first


def _renamed(model):
    model.graph.output[0].name = model.graph.node[-1].output[0] = "other"
    return model, True


@pytest.mark.parametrize("answer", [lambda m: (m, False), _renamed, lambda m: 1 / 0])
def test_what_onnxsim_makes_is_taken_only_where_it_is_the_same_network(answer, tmp_path, monkeypatch):
    net, x = _net(), torch.randn(1, 3, 8, 8)
    given = []

    def simplify(model):
        given.append(model)
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.graph.node.add(op_type="Identity", input=[model.graph.input[0].name], output=["left over"])
        return answer(copy)

    monkeypatch.setattr(to_onnx.onnxsim, "simplify", simplify)
    path = export_onnx(net, x, tmp_path / "m.onnx", output_names=["features"])
    assert len(given) == 1
    found = onnx.load(path).graph
    assert [o.name for o in found.output] == ["features"]
    assert "left over" not in {name for node in found.node for name in node.output}
    assert check_onnx(path, net, x).passed


def test_what_onnxsim_saves_is_saved(tmp_path, monkeypatch):
    def answer(model):
        simple = onnx.ModelProto()
        simple.CopyFrom(model)
        simple.graph.name = "simplified"
        return simple, True

    monkeypatch.setattr(to_onnx.onnxsim, "simplify", answer)
    path = export_onnx(_net(), torch.randn(1, 3, 8, 8), tmp_path / "m.onnx")
    assert onnx.load(path).graph.name == "simplified"


def test_dynamic_batch(tmp_path):
    net = _net()
    path = export_onnx(net, torch.randn(1, 3, 8, 8), tmp_path / "m.onnx", dynamic_batch=True)
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = torch.randn(5, 3, 8, 8)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert relative_error([net(x)], [found]) < 1e-5


def test_subnormals_are_flushed(tmp_path):
    net = torch.nn.Linear(3, 2).eval()
    with torch.no_grad():
        net.weight[0] = 1e-40
    model = onnx.load(export_onnx(net, torch.randn(1, 3), tmp_path / "m.onnx"))
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            assert not ((value != 0) & (np.abs(value) < np.finfo(np.float32).tiny)).any()


def test_parity_sees_a_wrong_file(tmp_path):
    x = torch.randn(1, 3, 8, 8)
    net, other = _net(), _net()
    path = export_onnx(net, x, tmp_path / "m.onnx")
    assert check_onnx(path, net, x).passed
    with torch.no_grad():
        other[0].weight[0] += 0.1
    assert not check_onnx(path, other, x).passed


@pytest.mark.parametrize(
    "name", ["qkv_sdpa", "option_a_shortcut", "lstm", "two_outputs", "einsum_parameter", "c2f"]
)
def test_compact_structures_agree_with_onnx_runtime(name, tmp_path):
    torch.manual_seed(0)
    model, shape = STRUCTURES[name]()
    network = trace_network(model.eval(), (torch.randn(*shape),))
    randomise_tensors(network)
    result = compact(network, random_keep(network, 0.5, 1))
    path = export_onnx(result.module, network.example_inputs, tmp_path / "m.onnx")
    check = check_onnx(path, result.module, network.example_inputs)
    assert check.passed, check


def test_what_has_no_onnx_form_is_refused_and_leaves_nothing(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x)

    with pytest.raises(UnsupportedError, match=r"written as ONNX: .*aten\.linalg_eig") as refused:
        export_onnx(Odd(), torch.randn(1, 3, 3), tmp_path / "m.onnx")
    assert "\x1b" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_an_input_error(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not onnx")
    with pytest.raises(InputError, match="cannot load"):
        check_onnx(path, _net(), torch.randn(1, 3, 8, 8))


def test_relative_error_counts_shapes_and_not_a_number_as_failures():
    one = torch.ones(2)
    assert relative_error([one], [one * 1.5]) == pytest.approx(0.5)
    assert relative_error([one], [torch.ones(3)]) == float("inf")
    assert relative_error([one], [one * float("nan")]) == float("inf")
    assert relative_error([], []) == float("inf")


def test_require_names_what_failed():
    require([Check("a", True, 0.0, 1.0)])
    with pytest.raises(CheckError, match="b: 2, may be at most 1"):
        require([Check("a", True, 0.0, 1.0), Check("b", False, 2.0, 1.0)])


class Magnifier(torch.nn.Module):
    """Rounding of float32 comes out some thousand times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(64, 32), torch.nn.Linear(32, 4)

    def forward(self, x):
        return self.b((self.a(x) * 3e3).sin())


def test_where_float32_cannot_tell_float64_decides(tmp_path):
    torch.manual_seed(0)
    model, x = Magnifier().eval(), torch.randn(1, 64)
    path = export_onnx(model, (x,), tmp_path / "m.onnx")
    check = check_onnx(path, model, (x,), limit=1e-9)
    assert check.passed, check
    assert "float64" in check.detail
    with torch.no_grad():
        model.b.weight[0] *= 1.1
    assert not check_onnx(path, model, (x,), limit=1e-9).passed


class Windows(torch.nn.Module):
    """Attention over windows in a dimension of their own, as in Twins and NesT, with or without a mask."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(16, 48), torch.nn.Linear(16, 5)
        self.register_buffer("mask", torch.randn(4, 1, 3, 3) if masked else None)

    def forward(self, x):
        b, w, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, w, n, 3, 4, 4).permute(3, 0, 4, 1, 2, 5).unbind(0)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return self.out(y.permute(0, 2, 3, 1, 4).reshape(b, w, n, c))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_five_dimensions_is_exported(masked, tmp_path):
    torch.manual_seed(0)
    model, x = Windows(masked).eval(), torch.randn(2, 5, 3, 16)
    path = export_onnx(model, (x,), tmp_path / "m.onnx")
    assert check_onnx(path, model, (x,)).passed


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(3, 16), (2, 3, 16)])
def test_attention_without_heads_is_exported(shape, masked, tmp_path):
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.k, self.v = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
            self.register_buffer("mask", torch.randn(*[1] * (len(shape) - 2), 3, 3) if masked else None)

        def forward(self, x):
            y = torch.nn.functional.scaled_dot_product_attention(x, self.k(x), self.v(x), self.mask)
            return y.relu()

    torch.manual_seed(0)
    model, x = Plain().eval(), torch.randn(*shape)
    path = export_onnx(model, (x,), tmp_path / "m.onnx")
    assert check_onnx(path, model, (x,)).passed


def test_a_look_up_by_a_table_of_indices_is_exported(tmp_path):
    model, x = torch.nn.Unfold(3, padding=1, stride=2).eval(), torch.randn(1, 4, 8, 8)
    path = export_onnx(model, (x,), tmp_path / "m.onnx")
    assert check_onnx(path, model, (x,)).passed
