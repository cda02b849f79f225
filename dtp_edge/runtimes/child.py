"""One run in a child process: limits of time and memory, and its last words when it dies."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dtp_edge.remote import Remote, run_job

WORKER = Path(__file__).with_name("worker.py")
POLL_S = 0.05
LOG_BYTES = 1 << 20
MOST_LOG_BYTES = 64 << 20  # a child that prints more is stopped: its words would fill the disk
RESULT_BYTES = 16 << 20
OUTPUT_BYTES = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """`status` is ok, failed, missing, crashed or timeout; outputs only where ok.

    `facts` is what the adapter said of the file that it ran or made.
    """

    status: str
    detail: str = ""
    version: str | None = None
    latency_ms: float | None = None
    outputs: list[np.ndarray] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def run_child(
    python: str,
    job: Mapping[str, Any],
    inputs: list[np.ndarray],
    folder: Path,
    timeout_s: float,
    memory_bytes: int,
) -> Outcome:
    """Run `worker.py` under the interpreter `python`, within the limits; never raises for its faults."""
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    np.savez(folder / "inputs.npz", **{str(i): value for i, value in enumerate(inputs)})  # pyright: ignore[reportArgumentType]
    environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "PYTHONDONTWRITEBYTECODE": "1"}
    log = folder / "log.txt"
    with log.open("wb") as stream:
        try:
            child = subprocess.Popen(
                [python, str(WORKER), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome("missing", f"interpreter {python} cannot be started: {error.strerror}")
        stopped = _watch(child, timeout_s, memory_bytes, log)
    outcome = stopped or _read(folder, child.returncode, log)
    version = folder / "version.json"
    return replace(outcome, version=json.loads(version.read_text()) if version.is_file() else None)


def run_there(remote: Remote, job: Mapping[str, Any], inputs: list[np.ndarray]) -> Outcome:
    """Run `worker.py` and its adapter on a board. Raises `InputError` where the board cannot be asked."""
    arrays = io.BytesIO()
    np.savez(arrays, **{str(i): value for i, value in enumerate(inputs)})  # pyright: ignore[reportArgumentType]
    model, adapter = Path(job["model"]), Path(job["adapter"])
    there = {**job, "model": f"model{model.suffix}", "adapter": "adapter.py"}
    files: dict[str, Path | bytes] = {
        "worker.py": WORKER,
        "adapter.py": adapter,
        "inputs.npz": arrays.getvalue(),
    }
    files[str(there["model"])] = model
    if (beside := model.with_name(f"{model.name}.data")).is_file():
        files[beside.name] = beside
    answer = run_job(remote, {"kind": "run", "worker": there}, files).result
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("version.json", "outputs.npz", "result.json"):
            if name in answer["files"]:
                (folder / name).write_bytes(base64.b64decode(answer["files"][name]))
        log = folder / "log.txt"
        log.write_text(str(answer.get("log", "")), encoding="utf-8", errors="replace")
        outcome = _read(folder, int(answer.get("code", 1)), log)
        version = folder / "version.json"
        return replace(outcome, version=json.loads(version.read_text()) if version.is_file() else None)


def _watch(child: subprocess.Popen[bytes], timeout_s: float, memory_bytes: int, log: Path) -> Outcome | None:
    """Wait for the child; kill it and what it started at a limit, and say which."""
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(POLL_S)
                return None
            if time.monotonic() > deadline:
                return Outcome("timeout", f"stopped after {timeout_s:g} s")
            if log.stat().st_size > MOST_LOG_BYTES:
                return Outcome("crashed", f"stopped: it printed more than {MOST_LOG_BYTES >> 20} MiB")
            used = resident_bytes(child.pid)
            if used > memory_bytes:
                return Outcome(
                    "crashed",
                    f"stopped at {used / 2**20:.0f} MiB of memory: limit {memory_bytes / 2**20:.0f} MiB",
                )
    finally:
        _kill(child)


def resident_bytes(leader: int) -> int:
    """Return the resident memory of a process that leads a session, and of all that belong to it."""
    total = 0
    for process in _members(leader):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            total += process.memory_info().rss
    return total


def _members(leader: int) -> list[psutil.Process]:
    """Return the processes of a session, orphans too; without sessions, a process and its children."""
    if hasattr(os, "getsid"):
        return [process for process in psutil.process_iter() if _session(process.pid) == leader]
    try:
        process = psutil.Process(leader)
        return [process, *process.children(recursive=True)]
    except psutil.Error:  # it has ended meanwhile
        return []


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it has ended meanwhile, or is none of ours to ask
        return None


def _kill(child: subprocess.Popen[bytes]) -> None:
    if hasattr(
        os, "killpg"
    ):  # the child leads its own session: helpers go with it, those just being born too
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        for process in _members(child.pid):
            with contextlib.suppress(psutil.Error):
                process.kill()
    child.wait()


def _read(folder: Path, code: int, log: Path) -> Outcome:
    result = folder / "result.json"
    if code or not result.is_file():
        return Outcome("crashed", f"{_cause(code)}: {_last_words(log)}")
    if result.stat().st_size > RESULT_BYTES:
        return Outcome("failed", f"an answer of more than {RESULT_BYTES >> 20} MiB")
    answer = json.loads(result.read_text(encoding="utf-8"))
    outcome = Outcome(
        answer["status"],
        _one_line(answer["detail"]),
        latency_ms=answer.get("latency_ms"),
        facts=answer.get("facts") or {},
    )
    stored = folder / "outputs.npz"
    if outcome.status != "ok" or not stored.is_file():
        return outcome
    if stored.stat().st_size > OUTPUT_BYTES:
        return Outcome("failed", "outputs of more than 1 GiB")
    with np.load(stored, allow_pickle=False) as arrays:
        outcome.outputs.extend(arrays[str(i)] for i in range(len(arrays.files)))
    return outcome


def _cause(code: int) -> str:
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def _last_words(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - LOG_BYTES))
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return _one_line(" | ".join(line.strip() for line in lines[-2:])) or "no message"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:297] + "..."
