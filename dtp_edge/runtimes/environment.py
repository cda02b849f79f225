"""Which Python has a runtime: the caller's, the one that a variable names, the one made here, or this one.

Vendors pin other versions than ours and than each other. `make_environment` gives a runtime an environment
of its own, with the versions that the tests were last run with, in the user's cache folder. It counts as made
when its stamp is there: a digest of what was installed, written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from dtp_edge.errors import DtpEdgeError, InputError, UnsupportedError, nearest
from dtp_edge.runtimes.registry import RUNTIMES, Runtime

PYTHON_VARIABLE = "DTP_EDGE_PYTHON_"  # + the runtime's name in capitals: the interpreter that has it
FOLDER_VARIABLE = "DTP_EDGE_ENVIRONMENTS"  # where environments are made, in place of the cache folder
STAMP = "dtp-edge-installed.txt"
NEEDED_BYTES = 4 << 30  # free space that an installation with torch may need for a while
LAST_WORDS = 600
READY_S = 30.0


class EnvironmentFault(DtpEdgeError):
    """An environment could not be made."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, as go.py has it


@dataclass(frozen=True)
class Made:
    """An environment: where its Python is, and what it costs. `seconds` is 0 where it was there before."""

    runtime: str
    python: Path
    bytes: int
    seconds: float


def interpreter(runtime: Runtime, interpreters: Mapping[str, str] | None = None) -> str:
    """Return the Python that runs a runtime: the caller's, the variable's, the made one, or this."""
    chosen = (interpreters or {}).get(runtime.name) or os.environ.get(PYTHON_VARIABLE + runtime.name.upper())
    if chosen:  # it is started in other folders; a name without one is looked up as a shell does
        return os.path.abspath(chosen) if os.path.dirname(chosen) else chosen
    made = environment_folder(runtime.name)
    return str(python_of(made)) if (made / STAMP).is_file() else sys.executable


def environment_folder(name: str) -> Path:
    """Return where the environment of a runtime is, or would be."""
    home = os.environ.get(FOLDER_VARIABLE) or platformdirs.user_cache_path("dtp-edge", appauthor=False)
    return Path(home).absolute() / f"env-{name}"


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_made(name: str) -> bool:
    """Return whether the environment of a runtime is there, whole."""
    return _stamped(environment_folder(name)) is not None


def unready(name: str) -> str:
    """Return why a runtime cannot be asked, and what to do; "" where its package is there."""
    runtime = RUNTIMES[name]
    python = interpreter(runtime)
    code = f"import importlib.metadata as m; m.version({runtime.distribution!r})"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [python, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, timeout=READY_S, check=False
        )
        if done.returncode == 0:
            return ""
    hint = f"`dtp-edge env {name}` makes an environment that has it" if runtime.pins else runtime.install
    return f"{python} has no {runtime.distribution}; {hint}"


def makeable() -> dict[str, Runtime]:
    """Return the runtimes for which versions are pinned."""
    return {name: runtime for name, runtime in RUNTIMES.items() if runtime.pins}


def make_environment(
    name: str,
    *,
    index: str | None = None,
    timeout_s: float = 3600.0,
    again: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Made:
    """Make the environment of a runtime unless it is there; return where it is and what it costs.

    `index` is a further package index (of CPU builds of torch, say). What cannot be made is taken away again.

    Raises InputError for a runtime without pinned versions, `EnvironmentFault` where pip fails.
    """
    known = makeable()
    if name not in known:
        close = nearest(name, known)
        hint = f"Nearest: {', '.join(close)}." if close else f"Known: {', '.join(known)}."
        raise InputError(f"no environment is known for {name!r}", where="NAME", hint=hint)
    folder, wanted = environment_folder(name), _digest(known[name])
    if not again and _stamped(folder) == wanted:
        return Made(name, python_of(folder), folder_bytes(folder), 0.0)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder.parent).free) < NEEDED_BYTES and "torch" in " ".join(
        known[name].pins
    ):
        raise UnsupportedError(
            f"{folder.parent} has {free >> 20} MiB free, and it may need {NEEDED_BYTES >> 20} for a while",
            where=name,
            hint=f"Free some space, or name another folder with {FOLDER_VARIABLE}.",
        )
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    try:
        say(f"making an environment in {folder}")
        _call([sys.executable, "-m", "venv", str(folder)], timeout_s)
        for bare, pins in ((False, known[name].pins), (True, known[name].bare_pins)):
            if pins:
                say(f"installing {', '.join(pins)}")
                _call(_pip(folder, pins, index, bare=bare), timeout_s)
        (folder / STAMP).write_text(wanted, encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Made(name, python_of(folder), folder_bytes(folder), time.monotonic() - started)


def folder_bytes(folder: Path) -> int:
    """Return what the files below a folder take on the disk; a file with two names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            about = path.lstat()
            seen[about.st_dev, about.st_ino] = about.st_size
    return sum(seen.values())


def _pip(folder: Path, pins: tuple[str, ...], index: str | None, *, bare: bool) -> list[str]:
    command = [str(python_of(folder)), "-m", "pip", "install", "-q", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-input"]
    command += ["--no-deps"] if bare else []
    command += ["--extra-index-url", index] if index else []
    return [*command, *pins]


def _call(command: list[str], timeout_s: float) -> None:
    """Run one step of the making; one that fails or takes too long is told with its last words."""
    what = " ".join(command[1:4])
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, words = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(
            f"{what} took more than {timeout_s:g} s", hint="Give it longer with --timeout."
        ) from error
    finally:
        if child.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode:
        last = " ".join(words.split())[-LAST_WORDS:]
        raise EnvironmentFault(
            f"{what} ended with code {child.returncode}: {last or 'no message'}",
            hint="Its last words say why. Nothing was left behind; try again where the index answers.",
        )


def _digest(runtime: Runtime) -> str:
    text = "\n".join([*runtime.pins, *runtime.bare_pins, sys.version.split()[0]])
    return hashlib.sha256(text.encode()).hexdigest()


def _stamped(folder: Path) -> str | None:
    stamp = folder / STAMP
    return stamp.read_text(encoding="utf-8") if stamp.is_file() and python_of(folder).exists() else None
