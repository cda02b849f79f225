"""End to end over a real sshd on loopback: measure, prune, the measured line; one connection is killed."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from click.testing import CliRunner

from dtp_edge.cli import check as check_module
from dtp_edge.cli import prune as prune_module
from dtp_edge.errors import InputError
from dtp_edge.measure import measure_board
from dtp_edge.profiles import save_profile
from dtp_edge.remote import remote_of, run_job
from tests.helpers import loopback

if not loopback.available():
    pytest.skip("no sshd here", allow_module_level=True)


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[loopback.Board]:
    with loopback.board(tmp_path_factory.mktemp("sshd")) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


def test_measure_prune_and_the_measured_line(board, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dtp_edge.measure.on_board.THROTTLED", math.inf)  # other tests run beside
    quick = ("--visits", "1", "--least-cpu-share", "0")
    profile = measure_board(remote_of(board.place), probes=20, options=quick)
    save_profile(profile.document, tmp_path / "board.json")
    arguments = ["resnet8", "--device", "board.json", "--latency", "60%", "--on", board.place, "--out", "o"]
    pruned = CliRunner().invoke(prune_module.prune, arguments, catch_exceptions=False)
    assert pruned.exit_code == 0
    assert f"on {board.place}: ratio" in " ".join(pruned.output.split()).replace("- ", "-")
    checked = CliRunner().invoke(
        check_module.check,
        ["o/model.onnx", "--runtime", "onnxruntime", "--on", board.place],
        catch_exceptions=False,
    )
    assert checked.exit_code == 0
    assert not [name for name in os.listdir(board.folder / "tmp") if name.startswith("dtp-edge-")]


def test_a_connection_that_is_killed(board):
    before = set(psutil.Process(board.server.pid).children(recursive=True))

    def kill() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if any(name.startswith("dtp-edge-") for name in os.listdir(board.folder / "tmp")):
                break
            time.sleep(0.05)
        for process in set(psutil.Process(board.server.pid).children(recursive=True)) - before:
            if process.name().startswith("sshd"):
                process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(InputError, match="the connection was lost"):
        run_job(
            remote_of(board.place),
            {"kind": "run", "worker": {}},
            {"worker.py": b"import time\ntime.sleep(30)\n"},
        )
    thread.join()


def test_a_host_whose_key_is_not_known(board, monkeypatch):
    monkeypatch.setenv("DTP_EDGE_SSH", f"{board.environment['DTP_EDGE_SSH']} -o UserKnownHostsFile=none")
    with pytest.raises(InputError, match="no connection could be made: Host key verification failed"):
        run_job(remote_of(board.place), {"kind": "hello"}, {})
