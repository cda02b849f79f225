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
from helpers.own_package import install, run_with
from onnx import TensorProto, helper

from dtp_edge.measure.printout import open_content, readers
from dtp_edge.onnx.reader import load_onnx, registry, supported_operators
from dtp_edge.onnx.rewriting import run_passes

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


def test_the_format_is_the_one_that_is_there() -> None:
    maker = PAGES.parents[1] / "dtp_edge" / "runtimes" / "formats" / "to_openvino.py"
    assert examples("format.md") == [maker.read_text(encoding="utf-8")]


def test_the_pass() -> None:
    names = run_example(examples("onnx.md")[1])
    before = one_node("HardSwish")
    after = run_passes(before, [names["PlainHardSwish"]()])
    assert [n.op_type for n in after.graph.node] == ["HardSigmoid", "Mul"]
    np.testing.assert_allclose(truth(after), truth(before), atol=1e-6)


def test_the_runtime(tmp_path: Path) -> None:
    """One file, from a package of one's own."""
    (adapter,) = examples("runtime.md")
    install(tmp_path, "dtp_edge.runtimes", "reference = house_runtime", house_runtime=adapter)
    onnx.save(one_node("HardSwish"), tmp_path / "m.onnx")
    use = "from dtp_edge.runtimes import check_runtimes, list_runtimes\n"
    use += f"(found,) = check_runtimes({str(tmp_path / 'm.onnx')!r}, ['reference'])\n"
    use += "print(found.status, found.version, list_runtimes()[-1].install)"
    assert run_with(tmp_path, use).split("\n")[0] == f"ok {onnx.__version__} pip install onnx"


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


def test_the_kind_of_data(tmp_path: Path) -> None:
    """One file, from a package of one's own."""
    (kind,) = examples("data.md")
    install(tmp_path, "dtp_edge.data", "ramps = house_data:KIND", house_data=kind)
    use = "from dtp_edge.training import load_data\n"
    use += "data = load_data('ramps:,count=80')\n"
    use += "x, y = next(data.test.ordered(100))\n"
    use += "print(data.task, len(data.train), (x[:, 1] == y[:, 0]).all().item())"
    assert run_with(tmp_path, use).split("\n")[0] == "regression 58 True"


def test_the_objective(tmp_path: Path) -> None:
    """One file, from a package of one's own: found by name, and a run is judged by it."""
    source = next(e for e in examples("objective.md") if "OBJECTIVE" in e)
    install(tmp_path, "dtp_edge.objectives", "ordinal = house_objective:OBJECTIVE", house_objective=source)
    use = """
import torch
from torch import nn
import dtp_edge as dtp
from dtp_edge.training import DataSource, Recipe
from dtp_edge.training.data.dataset_split import DatasetSplit

rows = [(x, (x[:3].sum() > torch.tensor([-1.0, 0.0, 1.0])).sum()) for x in torch.randn(96, 6)]
ends = ((24, 96), (0, 12), (12, 24))
collate = torch.utils.data.default_collate
splits = [DatasetSplit(rows, torch.arange(96)[a:b], collate=collate) for a, b in ends]
net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
result = dtp.prune_for_device(
    net, torch.zeros(1, 6), device="rpi4-ncnn-fp32-1t", budget=dtp.Budget(macs="60%"), objective="ordinal",
    data=DataSource("rows", None, (6,), (), (), *splits),
    recipe=Recipe(base_epochs=8, mask_epochs=2, tune_epochs=4, batch_size=12),
)
accuracy = result.report["accuracy"]
wrong = [abs(int((result.module(x[None]) > 0).sum()) - int(y)) for x, y in rows[12:24]]
print(accuracy["metric"], abs(accuracy["pruned"] - sum(wrong) / 12) < 1e-6, accuracy["higher_is_better"])
"""
    assert run_with(tmp_path, use).strip() == "places off True False"


def test_every_objective_stands_in_the_guide_and_in_the_help() -> None:
    from dtp_edge.cli.prune_help import EPILOG
    from dtp_edge.training.objectives.registry import kinds

    page = (PAGES.parent / "tasks.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z][a-z-]*)` \| .* \| (.*) \|$", page, re.M))
    assert set(rows) == set(kinds())
    for name, kind in kinds().items():
        headline = getattr(kind, "headline", None)  # some know it only for their data
        if headline is not None:
            assert rows[name] == headline.name + ("" if headline.higher_is_better else ", lower is better")
        assert name in EPILOG
