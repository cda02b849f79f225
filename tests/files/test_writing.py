"""Files appear whole or not at all, and a full disk is an error that says so, whoever writes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import giants
from torch import nn

from benchmarks.problems.keeps import random_keep
from dtp_edge.archive import save_pruned
from dtp_edge.errors import InputError
from dtp_edge.files import unwritable, whole_file, write_bytes, write_text
from dtp_edge.graph import trace_network
from dtp_edge.measure import write_kit
from dtp_edge.onnx import export_onnx
from dtp_edge.profiles import save_profile
from dtp_edge.report import write_report
from dtp_edge.run.outputs import refuse_finished, staged
from dtp_edge.surgery import compact
from dtp_edge.training.checkpoint import PhaseState, Store
from dtp_edge.training.logs import write_csv


@contextlib.contextmanager
def full_disk(most_bytes: int = 512) -> Iterator[None]:
    """No file may grow beyond this: writes fail as on a full disk (EFBIG in place of ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()


def _pruned() -> Callable[[Path], Any]:
    traced = trace_network(network(), (torch.randn(1, 3, 8, 8),))
    keep = random_keep(traced, 0.5, 1)
    made = compact(traced, keep)
    return lambda out: save_pruned(out, made, traced, keep)


def _report() -> Callable[[Path], Any]:
    example = json.loads((Path(__file__).parents[1] / "report" / "example_report.json").read_text())
    return lambda out: write_report(out, example)


def _checkpoint(out: Path) -> None:
    Store(out, {"a": 1}, resume=False).save("masks", PhaseState(1, False, {"w": torch.zeros(1000)}))


WRITERS: dict[str, Callable[[], Callable[[Path], Any]]] = {
    "bytes": lambda: lambda out: write_bytes(out / "f", b"0" * 1000),
    "text": lambda: lambda out: write_text(out / "f", "0" * 1000),
    "profile": lambda: lambda out: save_profile(giants.profile(), out / "p.json"),
    "kit": lambda: lambda out: write_kit(out / "kit.zip", probes=1),
    "pruned": _pruned,
    "report": _report,
    "checkpoint": lambda: _checkpoint,
    "curve": lambda: lambda out: write_csv(out / "curve.csv", [{"step": i} for i in range(1000)]),
    "onnx": lambda: lambda out: export_onnx(network(), torch.randn(1, 3, 8, 8), out / "m.onnx"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, writer: str) -> None:
    write = WRITERS[writer]()
    write(tmp_path / "good")
    assert list((tmp_path / "good").iterdir())
    (tmp_path / "full").mkdir()
    with pytest.raises(InputError, match="cannot be written: File too large") as caught, full_disk():
        write(tmp_path / "full")
    assert caught.value.exit_code == 2
    assert "space" in (caught.value.hint or "")
    assert [p for p in (tmp_path / "full").iterdir() if p.name != "run.json"] == []


def test_a_full_disk_inside_a_run_leaves_no_finished_folder(tmp_path: Path) -> None:
    def run() -> None:
        with staged(tmp_path / "run") as stage:
            (stage / "report.json").write_text("{}")
            (stage / "model.onnx").write_bytes(b"0" * 1000)

    with pytest.raises(InputError, match="cannot be written: File too large"), full_disk():
        run()
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError), staged(tmp_path / "run"):
        (tmp_path / "not there").read_text()  # a fault of the program's own is not the disk's


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_disk_of_sixty_four_kibibytes(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this system lets nobody mount")
    try:
        write_bytes(small / "fits", b"0" * 30_000)
        with pytest.raises(InputError, match="No space left on device"):
            write_bytes(small / "fits", b"1" * 90_000)
        assert (small / "fits").read_bytes() == b"0" * 30_000
        assert [p.name for p in small.iterdir()] == ["fits"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a" / "f", "old")

    def half() -> None:
        with whole_file(path) as draft:
            draft.write_text("half")
            assert path.read_text() == "old"
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        half()
    assert [p.name for p in path.parent.iterdir()] == ["f"]
    assert path.read_text() == "old"


def test_two_threads_write_one_file_and_one_of_them_wins(tmp_path: Path) -> None:
    texts = [letter * 100_000 for letter in "abcd"]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "f", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "f").read_text() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_file_is_as_open_as_the_umask_says_and_its_name_may_be_odd(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_text(tmp_path / ("ü" * 100), "a\udc80")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_text() == "a?"
    for bad in (tmp_path / ("n" * 300), tmp_path / "zero\0byte", path / "below a file"):
        with pytest.raises(InputError):
            write_text(bad, "x")
    assert str(unwritable(Path("f"), OSError(28, "No space left on device"))).startswith(
        "f: cannot be written"
    )


def test_a_name_that_the_locale_cannot_spell_is_refused_with_what_to_set(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))  # as Python reads "rün" where ASCII is spoken
    for use in (
        lambda: refuse_finished(odd, force=False),
        lambda: export_onnx(network(), torch.randn(1, 3, 8, 8), odd / "m.onnx"),
    ):
        with pytest.raises(InputError, match="PYTHONUTF8=1"):
            use()


PROGRAM = "import sys; from dtp_edge.cli import main; main(sys.argv[1:])"


def _run(words: list[str], **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *words], text=True, timeout=120, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_what_cannot_be_said_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        told = _run(["devices"], stdout=full, stderr=subprocess.PIPE)
        silent = _run(["devices", "nothing"], stdout=subprocess.PIPE, stderr=full)
    assert told.returncode == 2
    assert "standard output: cannot be written: No space left" in told.stderr
    assert "Traceback" not in told.stderr
    assert silent.returncode == 2


def test_closed_streams_do_not_end_up_in_a_file(tmp_path: Path) -> None:
    closing = f"exec 0<&- 1>&- 2>&-; exec '{sys.executable}' -c \"$PROGRAM\" profile kit --help"
    done = subprocess.run(["bash", "-c", closing], env={**os.environ, "PROGRAM": PROGRAM}, timeout=120)
    assert done.returncode == 0


STOPPED = """
import sys, time, click
from dtp_edge import cli

@click.command()
def slow():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(1)  # the tidying up
        print("tidied", flush=True)

cli._prepare()
cli._finish(cli.run(slow, [], "slow"))
"""


def test_a_second_stop_does_not_end_the_tidying_up_of_the_first() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    for _ in range(2):
        child.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "tidied\n")
    assert "Traceback" not in err
