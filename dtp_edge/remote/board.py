"""One job on another machine: files go over as a tar, lines come back, and what went wrong is told apart."""

from __future__ import annotations

import base64
import io
import json
import shlex
import subprocess
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dtp_edge.errors import InputError
from dtp_edge.files import Bounds, check_bounds
from dtp_edge.remote.places import Remote as Remote
from dtp_edge.remote.places import remote_of as remote_of

SCRIPT = Path(__file__).with_name("board_script.py")
MARK = "dtp-edge "
MOST_BYTES = 256 * 1024 * 1024  # of one line, packed or not
_BOUNDS = Bounds(values=4_000_000, text=MOST_BYTES)
_NEXT = {
    "module": "Install it for the Python there: `pip install numpy onnxruntime`; another Python is named "
    "behind the host, as in ssh://pi@board/home/pi/venv/bin/python.",
    "library": "It was built for another processor or system: install the package for this board's own.",
    "architecture": "onnxruntime was built for another processor: install the package for this board's own.",
    "disk": "Free some space there, or set TMPDIR in the board's environment to a place that has it.",
    "killed": "Stop other programs there, or measure a smaller network.",
    "transfer": "Try again; the files did not come over whole.",
    "script": "What it says is the board's own answer; mend that and run again.",
    "system": "What it says is the board's own answer; mend that and run again.",
}


_LOST = ("closed by remote host", "client_loop: ")  # ssh, of a connection that stood


@dataclass(frozen=True)
class Answer:
    """What a job gave: its `result`, and the `machine` (processor architecture) that gave it."""

    result: Mapping[str, Any]
    machine: str


@dataclass
class _Heard:
    hello: dict[str, Any] = field(default_factory=dict)
    fault: tuple[str, str] | None = None
    result: Mapping[str, Any] | None = None


def run_job(
    remote: Remote,
    job: Mapping[str, Any],
    files: Mapping[str, Path | bytes],
    progress: Callable[[int, int], object] | None = None,
) -> Answer:
    """Do one job of `board_script` with these files (name there: what) and return its answer.

    **Raises:** `InputError` that says which it was: no connection, a lost one, no Python, a missing module, a
    full disk, a library of another architecture, or the script's own words.
    """
    # The name that was given, not the program behind it, which a wrapper (qemu, conda run) may have to start.
    job = {**job, "python": remote.python}
    line = f"exec {shlex.quote(remote.python)} -u -c {shlex.quote(SCRIPT.read_text(encoding='utf-8'))}"
    with tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.Popen(
                remote.command(line), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        except OSError as error:
            raise InputError(
                f"cannot be reached: {error}",
                where=remote.name,
                hint="Install OpenSSH's client (or adb), or name it in DTP_EDGE_SSH.",
            ) from error
        feeder = threading.Thread(target=_feed, args=(child.stdin, job, files), daemon=True)
        heard = _Heard()
        try:
            feeder.start()
            _listen(child.stdout, heard, remote, progress)
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            feeder.join(5)
        errors.seek(0)
        said = errors.read(20_000).decode(errors="replace").strip()
    if heard.fault is not None:
        kind, text = heard.fault
        raise _fault(remote, kind, text, heard)
    if heard.result is None:
        raise _silent(remote, code, said, heard)
    return Answer(heard.result, str(heard.hello.get("machine", "")))


def _feed(stream: BinaryIO | None, job: Mapping[str, Any], files: Mapping[str, Path | bytes]) -> None:
    """Write the tar; a reader that went away is told by what the other end said."""
    if stream is None:
        return
    with suppress(OSError, ValueError), stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for name, content in {"job.json": json.dumps(job).encode(), **files}.items():
            if isinstance(content, Path):
                archive.add(content, name, recursive=False)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def _listen(
    stream: Any, heard: _Heard, remote: Remote, progress: Callable[[int, int], object] | None
) -> None:
    while line := stream.readline(MOST_BYTES):
        text = line.decode(errors="replace")
        if not text.startswith(MARK):  # a banner of the login shell
            continue
        try:
            message = json.loads(text[len(MARK) :])
            if "hello" in message:
                heard.hello = dict(message["hello"])
            elif "progress" in message and progress is not None:
                progress(*(int(v) for v in message["progress"][:2]))
            elif "fault" in message:
                heard.fault = str(message["fault"]), str(message.get("text", ""))
            elif "result" in message:
                heard.result = _unpacked(message["result"], remote)
        except (ValueError, TypeError, KeyError, zlib.error) as error:
            raise InputError(
                f"answers in a way that is not understood: {str(error)[:200]}",
                where=remote.name,
                hint="Check that the host is the board that you mean.",
            ) from error


def _unpacked(packed: str, remote: Remote) -> Mapping[str, Any]:
    worker = zlib.decompressobj()
    plain = worker.decompress(base64.b64decode(packed, validate=True), MOST_BYTES)
    if worker.unconsumed_tail:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    result = json.loads(plain)
    if not isinstance(result, dict):
        raise TypeError("no object")
    check_bounds(result, where=remote.name, hint="Measure again.", bounds=_BOUNDS)
    return result


def _fault(remote: Remote, kind: str, text: str, heard: _Heard) -> InputError:
    machine = heard.hello.get("machine", "the board")
    what = {
        "module": f"its Python has no module {text}",
        "library": f"a library cannot be loaded on this {machine}: {text}",
        "architecture": f"onnxruntime does not run on this {machine}: {text}",
        "disk": f"its disk is full: {text}",
        "killed": f"the measurement was {text}",
        "transfer": f"the files came over broken: {text}",
    }.get(kind, text)
    return InputError(what, where=remote.name, hint=_NEXT.get(kind, _NEXT["system"]))


def _silent(remote: Remote, code: int, said: str, heard: _Heard) -> InputError:
    """Return the error of a job that ended without an answer; ssh itself ends with 255."""
    last = said.splitlines()[-1][:300] if said else f"exit code {code}"
    if heard.hello or any(words in said for words in _LOST):
        hint = "Check the line and the board's power, and run again; nothing is left there."
        return InputError(
            f"the connection was lost before the board answered: {last}", where=remote.name, hint=hint
        )
    if code == 127:
        hint = "Install Python there, or name it behind the host: ssh://pi@board/path/to/python."
        return InputError(f"has no {remote.python}: {last}", where=remote.name, hint=hint)
    if code == 126:
        hint = "It is a program of another architecture, or none: name the board's own Python."
        return InputError(f"cannot run {remote.python}: {last}", where=remote.name, hint=hint)
    hint = f"Try it by hand: {shlex.join(remote.command('true'))}"
    return InputError(f"no connection could be made: {last}", where=remote.name, hint=hint)
