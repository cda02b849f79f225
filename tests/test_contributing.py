"""The worked examples of docs/contributing do what their pages say: each is taken from its page and used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from dtp_edge.measure.printout import open_content, readers
from dtp_edge.onnx.reader import load_onnx, registry, supported_operators
from dtp_edge.onnx.rewriting import run_passes
from dtp_edge.runtimes.registry import RUNTIMES, Runtime
from dtp_edge.runtimes.trial import check_runtimes

PAGES = Path(__file__).parents[1] / "docs" / "contributing"
X = np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype(np.float32)


def examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.S)


def run_example(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__example__"}
    exec(compile(source, "example", "exec", dont_inherit=True), names)
    return names


def one_node(op: str, **attributes: Any) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, X.shape) for n in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], **attributes)], "net", [x], [y])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def truth(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


def test_the_operator_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MeanVarianceNormalization" not in supported_operators()
    monkeypatch.setattr(registry, "_WRITERS", dict(registry._WRITERS))
    run_example(examples("onnx.md")[0])
    model = one_node("MeanVarianceNormalization", axes=[2, 3])
    onnx.save(model, tmp_path / "m.onnx")
    module, _ = load_onnx(tmp_path / "m.onnx")
    np.testing.assert_allclose(module(torch.from_numpy(X)).detach().numpy(), truth(model), atol=1e-5)


def test_the_pass() -> None:
    names = run_example(examples("onnx.md")[1])
    before = one_node("HardSwish")
    after = run_passes(before, [names["PlainHardSwish"]()])
    assert [n.op_type for n in after.graph.node] == ["HardSigmoid", "Mul"]
    np.testing.assert_allclose(truth(after), truth(before), atol=1e-6)


def test_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, row = examples("runtime.md")
    (tmp_path / "on_reference.py").write_text(adapter, encoding="utf-8")
    runtime = eval(row, {"Runtime": Runtime})
    assert runtime.adapter.name == "on_reference.py"
    monkeypatch.setitem(RUNTIMES, "reference", runtime)
    monkeypatch.setattr(Runtime, "adapter", property(lambda r: _adapter(r, tmp_path)))
    onnx.save(one_node("HardSwish"), tmp_path / "m.onnx")
    (found,) = check_runtimes(tmp_path / "m.onnx", ["reference"])
    assert (found.status, found.version) == ("ok", onnx.__version__)


def _adapter(runtime: Runtime, folder: Path) -> Path:
    own = folder / f"on_{runtime.name}.py"
    return own if own.exists() else Path(check_runtimes.__code__.co_filename).with_name(own.name)


def test_the_reader_of_a_profiler(tmp_path: Path) -> None:
    reader = run_example(examples("profiler.md")[0])["READER"]
    (tmp_path / "made_up.csv").write_text("net,layer,kind,microseconds\nn,stem,Conv,12.5\nn,head,Gemm,3\n")
    content = open_content(tmp_path / "made_up.csv")
    assert reader.recognises(content)
    assert not any(other.recognises(content) for other in readers().values())
    found = reader.read(content, None)
    assert [(row.names, row.type, row.time) for row in found.rows] == [
        (("stem",), "Conv", 12.5),
        (("head",), "Gemm", 3.0),
    ]
