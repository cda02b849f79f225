"""dtp-edge check as its user sees it: every runtime a row, whatever it does, and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from dtp_edge import cli

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opset), "m.onnx")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(cli.cli, ["check", "m.onnx", *arguments], "dtp-edge")
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def python(body: str) -> str:
    """Write a program that stands for another environment's Python."""
    path = Path("python")
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)
    return str(path.resolve())


def test_a_missing_runtime_is_named_with_its_install_line_and_is_no_failure(call: Call) -> None:
    absent = python(
        "import json, sys; folder = sys.argv[2]\n"
        "json.dump(None, open(folder + '/version.json', 'w'))\n"
        "result = {'status': 'missing', 'detail': 'no'}\n"
        "json.dump(result, open(folder + '/result.json', 'w'))"
    )
    code, out, _ = call("--runtime", "onnxruntime,tvm", "--python", f"tvm={absent}")
    assert code == 0
    assert 'tvm is not here: pip install "dtp-edge[runtimes-tvm]"' in " ".join(out.split())
    assert "onnxruntime" in out


def test_a_crashing_runtime_is_a_row_beside_the_others(call: Call) -> None:
    crashing = python("import os, sys; sys.stderr.write('out_of_range'); sys.stderr.flush(); os.abort()")
    code, out, err = call("--runtime", "mnn,onnxruntime", "--python", f"mnn={crashing}", "--json")
    assert code == 4
    rows = {row["runtime"]: row for row in json.loads(out)}
    assert rows["mnn"]["status"] == "crashed"
    assert "SIGABRT: out_of_range" in rows["mnn"]["detail"]
    assert rows["onnxruntime"]["status"] == "ok"
    assert "mnn failed or disagrees" in err


def test_time_and_memory_are_limited(call: Call) -> None:
    hanging = python("import time; time.sleep(30)")
    code, out, _ = call("--runtime", "tract", "--python", f"tract={hanging}", "--timeout", "8", "--json")
    (row,) = json.loads(out)
    assert (code, row["status"], row["detail"]) == (4, "timeout", "stopped after 8 s")
    hungry = python("hog = bytearray(b'x') * (600 << 20)\nimport time; time.sleep(30)")
    code, out, _ = call("--runtime", "tract", "--python", f"tract={hungry}", "--memory", "400", "--json")
    (row,) = json.loads(out)
    assert (code, row["status"]) == (4, "crashed")
    assert "limit 400 MiB" in row["detail"]


def test_an_unknown_runtime_names_the_nearest(call: Call) -> None:
    code, _, err = call("--runtime", "opnvino")
    assert code == 2
    assert "openvino" in err
