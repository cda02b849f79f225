#!/usr/bin/env python3
"""Set up an environment of its own beside this file, once, and run one thing in it.

    python3 go.py demo            prune the embedded default for this machine
    python3 go.py test [ARGS]     lint, type-check and run every test
    python3 go.py shell ARGS      run that environment's Python with ARGS

It needs Python 3.11 or newer and nothing else: no pip, no venv package, no write access outside this
folder. The environment is `.venv` (or the folder that DTP_EDGE_VENV names); a stamp in it says what was
installed, so that a second run installs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = Path(os.environ.get("DTP_EDGE_VENV", HERE / ".venv"))
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
EXTRAS = {"demo": "demo", "shell": "demo", "test": "demo,test,lint,train"}


def fail(message: str) -> None:
    sys.exit(f"go.py: {message}")


def make_venv() -> None:
    """Create the environment; without the ensurepip module (Debian's bare python3) fetch pip as a wheel."""
    print(f"go.py: making an environment in {VENV}", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(VENV)], capture_output=True, text=True
    )
    if made.returncode != 0:
        fail(f"this Python cannot make an environment: {(made.stderr or made.stdout).strip()}")
    wheel = fetch_pip_wheel()
    subprocess.run([str(PYTHON), f"{wheel}/pip", "install", "-q", "--no-index", str(wheel)], check=True)
    wheel.unlink()


def fetch_pip_wheel() -> Path:
    """Download the newest pip wheel from the package index that pip would use."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    try:
        page = urllib.request.urlopen(index, timeout=60).read().decode()
        links = re.findall(r'href="([^"]+/pip-([0-9.]+)-py3-none-any\.whl)[#"]', page)
        link, version = max(links, key=lambda found: [int(part) for part in found[1].split(".") if part])
        wheel = VENV / f"pip-{version}-py3-none-any.whl"
        wheel.write_bytes(urllib.request.urlopen(urllib.parse.urljoin(index, link), timeout=60).read())
    except (OSError, ValueError) as error:
        shutil.rmtree(VENV, ignore_errors=True)
        fail(f"no pip here and none to be had from {index} ({error}). Install python3-venv and try again.")
    return wheel


def install(extras: str) -> None:
    """Install the checkout with `extras` unless the stamp says that this was done already."""
    wanted = (HERE / "pyproject.toml").read_bytes() + (HERE / "constraints.txt").read_bytes()
    stamp = VENV / "dtp-edge-installed.txt"
    digest = hashlib.sha256(wanted + str(HERE).encode()).hexdigest()
    done = stamp.read_text().split() if stamp.exists() else []
    have = set(done[1].split(",")) if len(done) == 2 and done[0] == digest else set()
    if PYTHON.exists() and set(extras.split(",")) <= have:
        return
    if not PYTHON.exists():
        make_venv()
    extras = ",".join(sorted(have | set(extras.split(","))))
    print(
        f"go.py: installing dtp-edge[{extras}] (once; a few minutes where torch has to be downloaded)",
        flush=True,
    )
    pip = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "-c", str(HERE / "constraints.txt"), "-e", f"{HERE}[{extras}]"])
    if done.returncode != 0:
        fail("pip could not install the packages; its message stands above. Nothing was marked as done.")
    stamp.write_text(f"{digest} {extras}\n")


def run(*command: str) -> int:
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    print("go.py: " + " ".join(command), flush=True)
    return subprocess.run([str(BIN / command[0]), *command[1:]], cwd=HERE, env=env).returncode


def run_tests(arguments: list[str]) -> int:
    if arguments:
        return run("python", "-m", "pytest", *arguments)
    for step in (["ruff", "check"], ["ruff", "format", "--check"], ["pyright"], ["python", "-m", "pytest"]):
        code = run(*step)
        if code:
            return code
    return 0


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python should read why, not a traceback
        fail(f"needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    what, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if what not in EXTRAS:
        print(__doc__)
        return 0 if what in ("-h", "--help") else 2
    install(EXTRAS[what])
    if what == "demo":
        return run("prune-for-device", "--demo", *arguments)
    if what == "test":
        return run_tests(arguments)
    return run("python", *arguments)


if __name__ == "__main__":
    sys.exit(main())
