"""A real sshd on loopback, on a high port, with keys made for the test; nothing of the user's is touched."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass
class Board:
    """`place` is what --on takes; `environment` what the client needs; `stop` ends every connection."""

    place: str
    environment: dict[str, str]
    folder: Path
    server: subprocess.Popen[bytes]

    def at(self, python: str) -> str:
        return self.place.removesuffix(sys.executable) + python


def available() -> bool:
    return Path(SSHD).is_file() and shutil.which("ssh") is not None and shutil.which("ssh-keygen") is not None


@contextlib.contextmanager
def board(folder: Path) -> Iterator[Board]:
    """Run an sshd that lets this user in by a key; it ends with the block."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
        "PermitRootLogin prohibit-password\n"
        f"PermitUserEnvironment no\nSetEnv TMPDIR={folder}/tmp OMP_NUM_THREADS=1\n"
    )
    (folder / "tmp").mkdir()
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {key}\n")
    (folder / "ssh_config").write_text(
        f"Host *\n IdentityFile {folder}/user\n IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n"
        " GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n ControlMaster no\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, run by root, wants to change to
    server = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL
    )
    try:
        _wait(port)
        environment = {"DTP_EDGE_SSH": f"ssh -F {folder}/ssh_config"}
        yield Board(
            f"ssh://{getpass.getuser()}@127.0.0.1:{port}{sys.executable}", environment, folder, server
        )
    finally:
        server.terminate()
        server.wait()


def _wait(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("the sshd of the test does not answer")
