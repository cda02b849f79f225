#!/usr/bin/env python3
"""Set up an environment of its own beside this file, once, and run one thing in it.

    python3 go.py demo            prune the embedded default for this machine
    python3 go.py test [ARGS]     lint, type-check and run every test
    python3 go.py test-more [ARGS]  run the tests marked `more` in a second environment (about 7 GB)
    python3 go.py install-more    only make that environment
    python3 go.py shell ARGS      run that environment's Python with ARGS

It needs Python 3.11 or newer and nothing else: no pip, no venv package, no write access outside this
folder. The environment is `.venv` (or the folder that DTP_EDGE_VENV names); a stamp in it says what was
installed, so that a second run installs nothing.

The second environment has what the first one's torch does not go with: torchvision, timm and the other
runtimes. It lies in the user's cache folder (or where DTP_EDGE_VENV_MORE says), holds nothing of this
checkout, and its stamp is a digest of the requirements, so that all checkouts share it. Where it cannot be
made within DTP_EDGE_INSTALL_LIMIT_S seconds (no limit unless set), the exit code is 75 and no test ran.
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
from typing import Any

HERE = Path(__file__).resolve().parent
VENV = Path(os.environ.get("DTP_EDGE_VENV", HERE / ".venv"))
EXTRAS = {"demo": "demo", "shell": "demo", "test": "demo,test,lint,train"}
MORE = ("test-more", "install-more")
NOT_MADE = 75  # the exit code where the second environment cannot be had here; EX_TEMPFAIL of sysexits.h
MORE_BYTES = 12 * 1024**3  # what its installation needs for a while


def fail(message: str) -> None:
    sys.exit(f"go.py: {message}")


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(venv: Path) -> None:
    """Create the environment; without the ensurepip module (Debian's bare python3) fetch pip as a wheel."""
    print(f"go.py: making an environment in {venv}", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode == 0:
        return
    shutil.rmtree(venv, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(venv)], capture_output=True, text=True
    )
    if made.returncode != 0:
        fail(f"this Python cannot make an environment: {(made.stderr or made.stdout).strip()}")
    wheel = fetch_pip_wheel(venv)
    subprocess.run(
        [str(python_of(venv)), f"{wheel}/pip", "install", "-q", "--no-index", str(wheel)], check=True
    )
    wheel.unlink()


def fetch_pip_wheel(venv: Path) -> Path:
    """Download the newest pip wheel from the package index that pip would use."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    try:
        page = urllib.request.urlopen(index, timeout=60).read().decode()
        links = re.findall(r'href="([^"]+/pip-([0-9.]+)-py3-none-any\.whl)[#"]', page)
        link, version = max(links, key=lambda found: [int(part) for part in found[1].split(".") if part])
        wheel = venv / f"pip-{version}-py3-none-any.whl"
        wheel.write_bytes(urllib.request.urlopen(urllib.parse.urljoin(index, link), timeout=60).read())
    except (OSError, ValueError) as error:
        shutil.rmtree(venv, ignore_errors=True)
        fail(f"no pip here and none to be had from {index} ({error}). Install python3-venv and try again.")
    return wheel


BIN, PYTHON = python_of(VENV).parent, python_of(VENV)


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
        make_venv(VENV)
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


def more_venv() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("DTP_EDGE_VENV_MORE") or Path(cache) / "dtp-edge" / "venv-more").absolute()


def requirements(project: dict[str, Any], extra: str) -> list[str]:
    """Return what an extra of this project asks for, its own extras followed, the project itself left out."""
    found: list[str] = []
    for requirement in project["optional-dependencies"][extra]:
        own = re.fullmatch(r"dtp-edge\[(.+)\]", requirement)
        found += (
            [r for name in own[1].split(",") for r in requirements(project, name.strip())]
            if own
            else [requirement]
        )
    return found


def install_more() -> int:
    """Make the second environment unless its stamp says that it is there; return 0 or NOT_MADE."""
    import tomllib  # 3.11; an older Python should read what main says, not a traceback

    venv, limit = more_venv(), float(os.environ.get("DTP_EDGE_INSTALL_LIMIT_S") or "inf")
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    wanted = sorted({*project["dependencies"], *requirements(project, "test-more")})
    constraints = HERE / "constraints-more.txt"
    what = "\n".join([*wanted, constraints.read_text(), sys.version.split()[0]])
    digest, stamp = hashlib.sha256(what.encode()).hexdigest(), venv / "installed.txt"
    if python_of(venv).exists() and stamp.exists() and stamp.read_text() == digest:
        return 0
    stamp.unlink(missing_ok=True)
    venv.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(venv).free) < MORE_BYTES:
        return not_made(f"{venv} has {free >> 30} GiB free, and it needs {MORE_BYTES >> 30}")
    if not python_of(venv).exists():
        make_venv(venv)
    print(f"go.py: installing torchvision, timm and other runtimes in {venv} (10 minutes or so)", flush=True)
    pip = [str(python_of(venv)), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pip += ["--no-cache-dir", "-c", str(constraints), *wanted]
    try:
        code = subprocess.run(pip, timeout=None if limit == float("inf") else limit).returncode
    except subprocess.TimeoutExpired:
        return not_made(f"pip took more than {limit:.0f} s (DTP_EDGE_INSTALL_LIMIT_S)")
    if code:
        return not_made("pip could not install it; its message stands above")
    stamp.write_text(digest)
    return 0


def not_made(why: str) -> int:
    print(f"go.py: NO SECOND ENVIRONMENT, so the tests marked `more` did not run: {why}.", flush=True)
    return NOT_MADE


def test_more(arguments: list[str]) -> int:
    """Run the tests that are marked `more`; the package is read from this checkout, not from a copy."""
    if code := install_more():
        return code
    # other files are not even read: they import what this environment need not have
    files = [p for p in sorted((HERE / "tests").rglob("test_*.py")) if "mark.more" in p.read_text("utf-8")]
    tests = [str(p.relative_to(HERE)) for p in files]
    command = [str(python_of(more_venv())), "-m", "pytest", "-m", "more", "--durations=5", *tests, *arguments]
    print("go.py: " + " ".join(command), flush=True)
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    return subprocess.run(command, cwd=HERE, env={**os.environ, "PYTHONPATH": path}).returncode


def run(*command: str) -> int:
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    print("go.py: " + " ".join(command), flush=True)
    return subprocess.run([str(BIN / command[0]), *command[1:]], cwd=HERE, env=env).returncode


def run_tests(arguments: list[str]) -> int:
    if arguments:
        return run("python", "-m", "pytest", *arguments)
    # a file a process at a time, on two cores: one thread each (CI says so), so neither waits for the other
    in_ci = ["--durations=15", "-n", str(min(2, os.cpu_count() or 1)), "--dist", "loadfile"]
    tests = ["python", "-m", "pytest", *(in_ci if os.environ.get("CI") else [])]
    for step in (["ruff", "check"], ["ruff", "format", "--check"], ["pyright"], tests):
        code = run(*step)
        if code:
            return code
    return 0


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python should read why, not a traceback
        fail(f"needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    what, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if what in MORE:
        return test_more(arguments) if what == "test-more" else install_more()
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
