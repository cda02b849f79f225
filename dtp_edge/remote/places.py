"""Where a job may run: `ssh://USER@HOST[:PORT][/PYTHON]` and `adb:SERIAL[/PYTHON]`, a command line each.

Keys, agents, jump hosts and known hosts are those of the user's own OpenSSH; nothing is stored, and a host
whose key is not known is refused by ssh itself. `DTP_EDGE_SSH` and `DTP_EDGE_ADB` name other programs, with
options.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Protocol

from dtp_edge.errors import InputError

HINT = "Write ssh://USER@HOST[:PORT][/path/to/python] or adb:SERIAL[/path/to/python]."
_SSH = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][\w.-]*)@)?(?P<host>[A-Za-z0-9][\w.-]*|\[[0-9a-fA-F:.%\w]+\])"
    r"(?::(?P<port>\d{1,5}))?(?P<python>/[^\s'\"]+)?/?"
)
_ADB = re.compile(r"adb:(?P<serial>[A-Za-z0-9][\w.:-]*)?(?P<python>/[^\s'\"]+)?")
_ALIVE = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")  # a dead line is noticed in 15 s


class Remote(Protocol):
    """A place: `name` as typed, the `python` there, and the command line that runs a shell's line there."""

    @property
    def name(self) -> str: ...

    @property
    def python(self) -> str: ...

    def command(self, line: str) -> list[str]: ...


@dataclass(frozen=True)
class Ssh:
    name: str
    destination: str
    port: int | None
    python: str = "python3"

    def command(self, line: str) -> list[str]:
        program = shlex.split(os.environ.get("DTP_EDGE_SSH") or "ssh")
        port = [] if self.port is None else ["-p", str(self.port)]
        # no password is asked for: stdin carries the job
        return [*program, "-T", "-o", "BatchMode=yes", *_ALIVE, *port, "--", self.destination, line]


@dataclass(frozen=True)
class Adb:
    name: str
    serial: str
    python: str = "python3"

    def command(self, line: str) -> list[str]:
        program = shlex.split(os.environ.get("DTP_EDGE_ADB") or "adb")
        chosen = ["-s", self.serial] if self.serial else []
        return [*program, *chosen, "shell", "-T", line]


def remote_of(text: str) -> Remote:
    """Read the name of a place. Raises `InputError`."""
    if found := _ADB.fullmatch(text):
        return Adb(text, found["serial"] or "", found["python"] or "python3")
    found = _SSH.fullmatch(text)
    if found is None or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise InputError(f"{text[:100]!r} does not name a board", where="--on", hint=HINT)
    host = found["host"].strip("[]")
    destination = f"{found['user']}@{host}" if found["user"] else host
    return Ssh(text, destination, int(found["port"]) if found["port"] else None, found["python"] or "python3")
