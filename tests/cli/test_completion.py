"""Completion as the shells ask for it: bash, fish and zsh themselves, where they are installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """#!{python}
import sys
sys.argv[0] = {name!r}
sys.path.insert(0, {root!r})
from dtp_edge.cli import {start}
{start}()
"""
ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and both programs on PATH."""
    home = tmp_path / "bin"
    home.mkdir()
    for name, start in (("dtp-edge", "main"), ("prune-for-device", "prune_main")):
        text = PROGRAM.format(python=sys.executable, name=name, root=ROOT, start=start)
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    (tmp_path / "my-weights.safetensors").touch()
    path = f"{home}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb"}


def fish(line: str, environment: dict[str, str]) -> str:
    script = f'dtp-edge completion fish | source; complete -C "{line}"'
    return _said(["fish", "--no-config", "-c", script], environment)


def bash(line: str, environment: dict[str, str]) -> str:
    """Call the function that bash was told to call, as bash does it at Tab."""
    words = line.split(" ")
    function = "_" + words[0].replace("-", "_") + "_completion"
    script = (
        f'eval "$(dtp-edge completion bash)"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; '
        f'compopt() {{ compgen -f -- "{words[-1]}"; }}; {function} {words[0]}; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return _said(["bash", "--norc", "-c", script], environment)


def zsh(line: str, environment: dict[str, str]) -> str:
    """Type the line and Tab into an interactive zsh."""
    main, other = pty.openpty()
    child = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=other, stdout=other, stderr=other, env=environment,
        cwd=environment["HOME"], start_new_session=True,
    )  # fmt: skip
    os.close(other)
    try:
        os.write(main, b"PS1='' ; autoload -Uz compinit && compinit -u -D\n")
        os.write(main, b'eval "$(dtp-edge completion zsh)"; bindkey "^I" complete-word; echo re""ady\n')
        _read(main, "ready")
        os.write(main, f"{line}\t".encode())
        return _read(main, None)
    finally:
        child.kill()
        child.wait()
        os.close(main)


def _read(main: int, until: str | None) -> str:
    """Read until a text comes, or until nothing came for two seconds."""
    said, end = "", time.monotonic() + 30
    while time.monotonic() < end:
        if not select.select([main], [], [], 2.0 if until is None else 0.5)[0]:
            if until is None and said.strip():
                break
            continue
        said += os.read(main, 65536).decode(errors="replace")
        if until is not None and until in said:
            break
    return said


def _said(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=environment["HOME"])
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("dtp-edge dev", "devices"),
        ("dtp-edge devices rpi4-nc", "rpi4-ncnn-fp32-"),
        ("prune-for-device --late", "--latency"),
        ("prune-for-device --device host,pixel", "host,pixel3-tflite-fp32"),
        ("prune-for-device --weights my-", "my-weights.safetensors"),
    ],
)
@pytest.mark.parametrize("shell", [bash, zsh, fish])
def test_tab(
    environment: dict[str, str], shell: Callable[[str, dict[str, str]], str], line: str, wanted: str
) -> None:
    if shutil.which(shell.__name__) is None:
        pytest.skip(f"{shell.__name__} is not installed")
    if shell is fish and "," in line:
        pytest.skip("click's lines for fish cut an answer at its commas")
    assert wanted in shell(line, environment)
