"""Jobs on another machine: done, and what goes wrong told apart. A stand-in for adb runs them here."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dtp_edge.cli.prune import prune
from dtp_edge.errors import InputError
from dtp_edge.measure.on_board import board_hello, measure_board, refuse_other_machine, time_on
from dtp_edge.measure.probe_builder import Builder
from dtp_edge.profiles import Profile, read_profile
from dtp_edge.remote import Remote, remote_of, run_job
from dtp_edge.runtimes import check_runtimes

if sys.platform == "win32":
    pytest.skip("the stand-in for a board is a shell", allow_module_level=True)


@pytest.fixture
def board(tmp_path, monkeypatch) -> Remote:
    """A board whose shell is this one, whose TMPDIR is `tmp`, and whose Python first looks into `site`."""
    program = tmp_path / "adb"
    program.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(0o755)
    for name in ("tmp", "site"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DTP_EDGE_ADB", str(program))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return remote_of(f"adb:{sys.executable}")


@pytest.fixture
def busy(monkeypatch) -> None:
    """Other tests run beside: what they take from this "board" is no fallen clock."""
    monkeypatch.setattr("dtp_edge.measure.on_board.THROTTLED", math.inf)


def network(channels: int = 8) -> bytes:
    builder = Builder(np.random.default_rng(0), 8, 16, 16)
    builder.conv(channels, 3)
    builder.act("Relu")
    return builder.finish(8, 16, 16)


def two(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "small.onnx", tmp_path / "large.onnx"]
    for path, channels in zip(paths, (8, 256), strict=True):
        path.write_bytes(network(channels))
    return paths


def test_files_are_timed_in_turns_and_nothing_stays(board, busy, tmp_path):
    counts: list[tuple[int, int]] = []
    paths = two(tmp_path)
    (light, heavy), reference = time_on(board, paths, seconds=0.3, progress=lambda *c: counts.append(c))
    assert heavy.latency_ms > 2 * light.latency_ms
    assert light.repeats == heavy.repeats == len(reference) == len(counts) >= 7
    assert [done for done, _ in counts] == list(range(1, len(counts) + 1))
    assert not list((tmp_path / "tmp").iterdir())


def test_a_board_is_measured_by_the_kit(board, busy):
    made = measure_board(board, probes=20, options=("--visits", "1", "--least-cpu-share", "0"))
    assert made.runtime.name == "ONNX Runtime"
    assert board.name in made.provenance.source
    assert any(key.startswith("conv") for key in made.kernels)


def test_the_runtimes_of_a_board_are_tried(board, tmp_path):
    path = two(tmp_path)[0]
    here, absent = check_runtimes(path, ["onnxruntime", "tvm"], repeats=2, on=board)
    assert here.status == "ok"
    assert here.latency_ms is not None
    assert absent.status == "missing"


def test_a_python_behind_a_wrapper_starts_every_process(board, tmp_path):
    """qemu-aarch64 PYTHON, say: the program behind the wrapper cannot be started by itself."""
    wrapper, calls = tmp_path / "wrapped", tmp_path / "calls"
    wrapper.write_text(f'#!/bin/sh\necho >> {calls}\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    (found,) = check_runtimes(two(tmp_path)[0], ["onnxruntime"], on=remote_of(f"adb:{wrapper}"))
    assert found.status == "ok"
    assert len(calls.read_text().splitlines()) == 2  # the job's own, and its child's


STUBS = {
    "module": ("raise ModuleNotFoundError('no', name='onnxruntime')", "its Python has no module onnxruntime"),
    "library": (
        "raise ImportError('x.so: wrong ELF class: ELFCLASS32')",
        "cannot be loaded on this .*ELFCLASS32",
    ),
}


@pytest.mark.parametrize("kind", STUBS)
def test_what_the_python_there_lacks(kind, board, tmp_path):
    code, message = STUBS[kind]
    (tmp_path / "site" / "onnxruntime.py").write_text(code)
    with pytest.raises(InputError, match=message):
        board_hello(board)


def test_a_full_disk(board, tmp_path):
    patch = "import shutil\ndef full(*_):\n"
    patch += "    raise OSError(28, 'No space left on device')\nshutil.copyfileobj = full\n"
    (tmp_path / "site" / "sitecustomize.py").write_text(patch)
    with pytest.raises(InputError, match=r"its disk is full.*No space left"):
        board_hello(board)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(("signal", "message"), [(4, "does not run on this"), (9, "killed by the system")])
def test_deaths_of_the_measurement_are_named(signal, message, board, tmp_path):
    worker = f"import os\nos.kill(os.getpid(), {signal})\n".encode()
    with pytest.raises(InputError, match=message):
        run_job(board, {"kind": "run", "worker": {}}, {"worker.py": worker})
    assert not list((tmp_path / "tmp").iterdir())


def test_no_python_and_one_of_another_architecture(board, tmp_path):
    with pytest.raises(InputError, match=r"has no /no/such/python"):
        board_hello(remote_of("adb:/no/such/python"))
    foreign = tmp_path / "python"
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x16\x00" + bytes(44))  # for an IBM Z
    foreign.chmod(0o755)
    with pytest.raises(InputError, match=r"cannot run .*python"):
        board_hello(remote_of(f"adb:{foreign}"))


def test_a_lost_connection_is_told_from_none(board, tmp_path, monkeypatch):
    refused = tmp_path / "refused"
    refused.write_text("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n")
    refused.chmod(0o755)
    monkeypatch.setenv("DTP_EDGE_SSH", str(refused))
    with pytest.raises(InputError, match="no connection could be made: Permission denied"):
        board_hello(remote_of("ssh://board"))
    cut = tmp_path / "cut"
    cut.write_text(
        f"#!/bin/sh\nfor last; do :; done\nexec 3<&0\n"
        f'sh -c "$last" <&3 & echo $! > {tmp_path}/pid\nwait\nexit 255\n'
    )
    cut.chmod(0o755)
    monkeypatch.setenv("DTP_EDGE_ADB", str(cut))

    def pull() -> None:
        until = time.monotonic() + 20
        while not list((tmp_path / "tmp").glob("*/worker.py")) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(int((tmp_path / "pid").read_text()), 9)

    thread = threading.Thread(target=pull)
    thread.start()
    worker = b"import time\ntime.sleep(60)\n"
    with pytest.raises(InputError, match="the connection was lost"):
        run_job(board, {"kind": "run", "worker": {}}, {"worker.py": worker})
    thread.join()


def test_a_falling_clock(board, tmp_path):
    slow = (
        "import builtins, time\nreal = time.perf_counter\ncalls = [0]\nbase = real()\n"
        "def ticking():\n    calls[0] += 1\n    return base + 1e-3 * calls[0] ** 1.5\n"
        "time.perf_counter = ticking\n"
    )
    (tmp_path / "site" / "sitecustomize.py").write_text(slow)
    with pytest.raises(InputError, match="its clock fell while it was measured"):
        time_on(board, two(tmp_path), seconds=0.2)


def test_a_board_that_goes_away_costs_its_times_alone(board, tmp_path, monkeypatch):
    def gone(*_: object, **__: object) -> None:
        raise InputError("the connection was lost", where=board.name)

    monkeypatch.setattr("dtp_edge.run.delivery.time_on", gone)
    arguments = ["resnet8", "--device", "rpi4-ncnn-fp32-1t", "--latency", "60%", "--out", str(tmp_path / "o")]
    pruned = CliRunner().invoke(prune, [*arguments, "--on", board.name], catch_exceptions=False)
    assert pruned.exit_code == 0
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert f"The files were not timed: {board.name}: the connection was lost" in report["warnings"]
    assert (tmp_path / "o" / "model.onnx").is_file()


def test_a_profile_of_another_architecture(board):
    text = {"name": "b", "chip": "c", "clock_mhz": 1.0}
    profile = read_profile("rpi4-ncnn-fp32-1t")
    refuse_other_machine(board, profile, "x86_64")  # which says nothing of its processor's name there
    other = Profile(**{**vars(profile), "device": type(profile.device)(cores="4 x aarch64", **text)})
    refuse_other_machine(board, other, "aarch64")
    with pytest.raises(InputError, match=r"is a x86_64, and profile .* measured on a aarch64"):
        refuse_other_machine(board, other, "x86_64")


@pytest.mark.parametrize(
    "line", ["{", '{"result": "!!"}', '{"result": "eJwDAAAAAAE="}', '{"progress": 3}', "[1]"]
)
def test_foreign_answers_are_refused(line, board, tmp_path, monkeypatch):
    program = tmp_path / "liar"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\necho 'dtp-edge {line}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("DTP_EDGE_ADB", str(program))
    with pytest.raises(InputError):
        board_hello(board)
