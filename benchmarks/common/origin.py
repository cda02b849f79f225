"""What a result must say of itself: date, machine, commit, version, packages. Without them it is none."""

from __future__ import annotations

import datetime
import importlib.metadata
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import dtp_edge
from dtp_edge.measure.machine import cpu_model

ROOT = Path(__file__).resolve().parents[2]
MADE_OF = ("dtp_edge", "hardware_profiles", "benchmarks/*.py")  # what a result depends on, for git
NEEDED = ("date", "machine", "commit", "dtp-edge")


class NoOrigin(SystemExit):
    """A result that cannot say where it comes from is not written."""


def commit() -> str:
    """Return the commit of this checkout, "+ changes" behind it where files that results depend on differ."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", *MADE_OF)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoOrigin(f"a result names its commit, and git cannot tell it here: {error}") from error
    return f"{name} + changes" if changed else name


def origin(packages: Sequence[str]) -> dict[str, str]:
    """Return the fields of every row: date, machine with threads, commit, dtp-edge, and `packages`' versions.

    The package's version is that of the code that ran (`dtp_edge.__version__`), not of what pip installed.
    """
    threads = torch.get_num_threads()
    found = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu_model()}, {threads} thread{'s' if threads > 1 else ''}",
        "commit": commit(),
        "dtp-edge": dtp_edge.__version__,
        **{package: _version(package) for package in packages},
    }
    if missing := [name for name in NEEDED if not found[name].strip()]:
        raise NoOrigin(f"a result must name its {', '.join(missing)}, which cannot be told here")
    return found


def in_words(fields: Mapping[str, str]) -> str:
    """Return an origin as the one cell that a CSV row has for it."""
    named = [f"{key} {value}" for key, value in fields.items() if key not in ("date", "machine")]
    return ", ".join([fields["date"], fields["machine"], *named])


def is_known(row: Mapping[str, Any]) -> bool:
    """Whether a row says which commit made it; those written before this file was do not."""
    return bool(row.get("commit")) or ", commit " in str(row.get("origin", ""))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
