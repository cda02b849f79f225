"""Runtimes in child processes: what agrees, what differs, and every way in which one can die."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dtp_edge.errors import InputError
from dtp_edge.runtimes.registry import RUNTIMES, Runtime
from dtp_edge.runtimes.trial import RuntimeRow, check_runtimes, list_runtimes

SCALE_AND_SUM = """
def load(job):
    weight = 1.0 + {error}
    return lambda inputs: [2 * inputs[0] * weight, inputs[0].sum(axis=1)]
"""


def write_model(path: Path, *, quantized: bool = False) -> Path:
    """y = 2 x (through int8 if asked), z = sum over dimension 1; x is [1, 4]."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["y"]),
        helper.make_node("ReduceSum", ["x", "one"], ["z"], keepdims=0),
    ]
    constants = [
        helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
    ]
    if quantized:
        constants += [helper.make_tensor("s", TensorProto.FLOAT, [], [0.05])]
        constants += [helper.make_tensor("zero", TensorProto.INT8, [], [0])]
        nodes[0] = helper.make_node("Mul", ["xd", "two"], ["y"])
        nodes.insert(0, helper.make_node("DequantizeLinear", ["xq", "s", "zero"], ["xd"]))
        nodes.insert(0, helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["xq"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes, "g", [x], [y, z], constants)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), str(path))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx")


@dataclass(frozen=True)
class Fake(Runtime):
    """A runtime whose adapter is a file of the test's."""

    script: Path = Path()

    @property
    def adapter(self) -> Path:
        return self.script


@pytest.fixture
def run_fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def run(source: str, model: Path, **options: object) -> RuntimeRow:
        script = tmp_path / "on_fake.py"
        script.write_text(source)
        monkeypatch.setitem(RUNTIMES, "fake", Fake("fake", "numpy", "runtimes-fake", "a test", script=script))
        return check_runtimes(model, ["fake"], **options)[0]  # pyright: ignore[reportArgumentType]

    return run


def test_onnxruntime_agrees_and_is_timed(model: Path) -> None:
    (row,) = check_runtimes(model, ["onnxruntime"], repeats=3)
    assert (row.runtime, row.status, row.max_abs_diff) == ("onnxruntime", "ok", 0.0)
    assert row.version
    assert row.latency_ms is not None
    assert row.latency_ms > 0


def test_one_percent_of_range_is_the_int8_limit_and_1e_4_the_float_one(tmp_path: Path, run_fake) -> None:
    float_model = write_model(tmp_path / "m.onnx")
    int8_model = write_model(tmp_path / "q.onnx", quantized=True)
    x = {"x": np.array([[0.1, -0.2, 0.3, 0.4]], np.float32)}  # y within [-0.4, 0.8]: range 1.2
    assert run_fake(SCALE_AND_SUM.format(error=0.0), float_model, inputs=x).status == "ok"
    assert run_fake(SCALE_AND_SUM.format(error=1e-4), float_model, inputs=x).status == "ok"  # 0.8e-4
    row = run_fake(SCALE_AND_SUM.format(error=2e-4), float_model, inputs=x)
    assert row.status == "failed"
    assert row.max_abs_diff == pytest.approx(1.6e-4, rel=1e-2)
    assert row.relative_diff == pytest.approx(1.6e-4 / 1.2, rel=1e-2)
    assert "differs from ONNX Runtime by 0.00016" in row.detail
    assert run_fake(SCALE_AND_SUM.format(error=1e-2), int8_model, inputs=x).status == "ok"
    assert run_fake(SCALE_AND_SUM.format(error=2e-2), int8_model, inputs=x).status == "failed"


def test_every_output_is_compared(model: Path, run_fake) -> None:
    row = run_fake("def load(job):\n    return lambda v: [2 * v[0], v[0].sum(axis=1) + 1]\n", model)
    assert row.status == "failed"
    assert row.max_abs_diff == pytest.approx(1.0)
    row = run_fake("def load(job):\n    return lambda v: [2 * v[0]]\n", model)
    assert (row.status, row.detail) == ("failed", "outputs have [4] elements, not [4, 1]")


def test_another_file_can_be_the_truth(model: Path, run_fake, tmp_path: Path) -> None:
    x = {"x": np.array([[0.1, -0.2, 0.31, 0.4]], np.float32)}
    int8_model = write_model(tmp_path / "q.onnx", quantized=True)  # steps of 0.05: 0.31 becomes 0.3
    row = run_fake(SCALE_AND_SUM.format(error=0.0), int8_model, inputs=x)
    assert row.max_abs_diff == pytest.approx(0.02, rel=1e-3)
    assert (
        run_fake(SCALE_AND_SUM.format(error=0.0), int8_model, inputs=x, reference=model).max_abs_diff == 0.0
    )


def test_nan_is_no_agreement(model: Path, run_fake) -> None:
    row = run_fake("def load(job):\n    return lambda v: [v[0] * float('nan'), v[0].sum(axis=1)]\n", model)
    assert row.status == "failed"


def test_a_crash_is_a_row(model: Path, run_fake) -> None:
    row = run_fake(
        "import os\ndef load(job):\n    os.write(2, b'out_of_range')\n    os.abort()\n",
        model,
    )
    assert row.status == "crashed"
    assert "SIGABRT" in row.detail
    assert "out_of_range" in row.detail
    assert row.version == np.__version__


def test_an_error_is_a_row_with_its_text(model: Path, run_fake) -> None:
    row = run_fake("def load(job):\n    raise ValueError('no kernel\\nfor Erf')\n", model)
    assert (row.status, row.detail) == ("failed", "ValueError: no kernel for Erf")


def test_exit_without_a_result_is_a_crash(model: Path, run_fake) -> None:
    row = run_fake("import os\ndef load(job):\n    os._exit(0)\n", model)
    assert (row.status, row.detail) == ("crashed", "exit code 0: no message")


def test_a_missing_runtime_names_its_install_line(model: Path, run_fake) -> None:
    row = run_fake("def load(job):\n    import no_such_runtime\n", model)
    assert row.status == "missing"
    assert row.detail.endswith('install: pip install "dtp-edge[runtimes-fake]"')
    assert row.install == 'pip install "dtp-edge[runtimes-fake]"'


def test_a_hanging_runtime_is_stopped_with_everything_that_it_started(
    model: Path, run_fake, tmp_path: Path
) -> None:
    source = f"""
import subprocess, sys, time
def load(job):
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open({str(tmp_path / "pid")!r}, "w").write(str(helper.pid))
    time.sleep(60)
"""
    start = time.monotonic()
    row = run_fake(source, model, timeout_s=3.0)
    assert (row.status, row.detail) == ("timeout", "stopped after 3 s")
    assert time.monotonic() - start < 20
    helper = Path("/proc") / (tmp_path / "pid").read_text() / "stat"
    for _ in range(100):  # the killed helper may be a zombie until the system takes it
        if not helper.exists() or helper.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the helper of a stopped runtime still runs")


@pytest.mark.parametrize(
    ("where", "sessions"),
    [
        *[(where, True) for where in ("itself", "its helper", "its orphan")],
        *[(where, False) for where in ("itself", "its helper")],  # nobody knows whose orphan a process is
    ],
)
def test_a_runtime_that_eats_memory_is_stopped(model: Path, run_fake, monkeypatch, where, sessions) -> None:
    if not sessions:  # as on Windows
        monkeypatch.delattr(os, "getsid")
        monkeypatch.delattr(os, "killpg")
    hog = "import time; hog = bytearray(b'x') * (300 << 20); time.sleep(30)"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {hog!r}])"
    source = {
        "itself": f"def load(job):\n    {hog}\n",
        "its helper": f"import time\ndef load(job):\n    {start}\n    time.sleep(30)\n",
        "its orphan": f"import subprocess, sys, time\ndef load(job):\n"
        f"    subprocess.run([sys.executable, '-c', {start!r}])\n    time.sleep(30)\n",
    }[where]
    row = run_fake(source, model, memory_bytes=200 << 20, timeout_s=25.0)
    assert row.status == "crashed"
    assert "limit 200 MiB" in row.detail


def test_the_interpreter_can_be_chosen(model: Path, run_fake, tmp_path: Path, monkeypatch) -> None:
    other = tmp_path / "other-python"
    other.write_text(f'#!/bin/sh\ntouch "{tmp_path}/was-here"\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    source = SCALE_AND_SUM.format(error=0.0)
    assert run_fake(source, model).status == "ok"
    assert not (tmp_path / "was-here").exists()
    monkeypatch.setenv("DTP_EDGE_PYTHON_FAKE", str(other))
    assert run_fake(source, model).status == "ok"
    assert (tmp_path / "was-here").exists()
    row = run_fake(source, model, interpreters={"fake": str(tmp_path / "nothing")})
    assert row.status == "missing"
    assert "cannot be started" in row.detail


def test_litert_reads_the_file_beside(model: Path) -> None:
    (row,) = check_runtimes(model, ["litert"])
    assert row.status == "missing"
    assert "write m.tflite beside" in row.detail


LITERT = """
import numpy as np

class Interpreter:
    def __init__(self, model_path, num_threads):
        pass
    def get_signature_runner(self):
        return Runner()

class Runner:
    def get_input_details(self):
        return {"args_0": {"shape": [1, 4], "dtype": np.int8, "quantization": (0.01, 5)}}
    def get_output_details(self):
        return {"output_1": {"quantization": (0.0, 0)}, "output_0": {"quantization": (0.02, -3)}}
    def __call__(self, args_0):
        assert args_0.dtype == np.int8
        x = (args_0.astype(np.float32) - 5) * 0.01
        y = np.clip(np.rint(2 * x / 0.02) - 3, -128, 127).astype(np.int8)
        return {"output_1": x.sum(axis=1), "output_0": y}
"""


def test_litert_files_with_int8_inputs_are_fed_and_read_in_their_steps(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(LITERT)
    model.with_suffix(".tflite").touch()
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("DTP_EDGE_PYTHON_LITERT", sys.executable)
    exact = {"x": np.array([[0.1, -0.2, 0.3, 0.4]], np.float32)}  # on steps, and within +-1.2
    (row,) = check_runtimes(model, ["litert"], exact)
    assert row.status == "ok", row.detail
    between = {"x": np.array([[0.1, -0.204, 0.3, 0.4]], np.float32)}
    (row,) = check_runtimes(model, ["litert"], between)
    assert row.max_abs_diff == pytest.approx(0.008, rel=0.01)
    outside = {"x": np.array([[0.1, -0.2, 0.3, 9.0]], np.float32)}  # cut at (127 - 5) / 100
    (row,) = check_runtimes(model, ["litert"], outside)
    assert row.max_abs_diff == pytest.approx(2 * (9 - 1.22), rel=0.01)


def test_bad_calls_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no runtime is called 'openvimo'(.|\n)*openvino"):
        check_runtimes(model, ["openvimo"])
    with pytest.raises(InputError, match="no such file"):
        check_runtimes(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xff not a model")
    with pytest.raises(InputError, match="not an ONNX file"):
        check_runtimes(tmp_path / "bad.onnx", [])
    with pytest.raises(InputError, match="no array for input 'x'"):
        check_runtimes(model, [], {"other": np.zeros(1)})
    with pytest.raises(InputError, match="ONNX Runtime cannot run it"):
        check_runtimes(model, [], {"x": np.zeros((1, 9), np.float32)})


def test_nothing_foreign_is_imported_by_asking_for_runtimes() -> None:
    code = "import sys, dtp_edge.runtimes.trial; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"openvino", "tract", "ncnn", "pnnx", "MNN", "tvm", "iree", "ai_edge_litert"} & set(loaded)


def test_every_runtime_has_an_adapter_and_an_extra_of_its_own() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    for runtime in list_runtimes():
        assert runtime.adapter.is_file()
        assert not runtime.extra or f"{runtime.extra} = [" in pyproject.read_text()


# what go.py test-more installs; the others have an environment each, named by DTP_EDGE_PYTHON_<NAME>
TOGETHER = ("openvino", "tract", "ncnn", "mnn")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.more if n in TOGETHER else ())
        for n in RUNTIMES
        if n not in ("onnxruntime", "litert", "ethosu", "cortexm")
    ],
)
def test_installed_runtimes_agree(name: str, model: Path) -> None:
    modules = {"mnn": "MNN", "iree": "iree.compiler"}
    if f"DTP_EDGE_PYTHON_{name.upper()}" not in os.environ:
        package = modules.get(name, name).partition(".")[0]
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{name} is not installed: {RUNTIMES[name].install}")
    (row,) = check_runtimes(model, [name], timeout_s=60)
    assert row.status == "ok", row.detail
