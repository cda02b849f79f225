"""Going on from what a stopped run left behind: whether there is something, and the command that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError, Interrupted

__all__ = ["refuse_resume", "stopped"]


def refuse_resume(request: dict[str, Any]) -> None:
    """Raise InputError if there is nothing to go on from: starting anew by accident costs hours."""
    if request["data"] is None and not request["many"]:
        raise InputError(
            "--resume needs --data",
            hint="A run without data trains nothing and takes seconds: start it again.",
        )
    if request["many"] and (Path(request["out"]) / "sweep.json").is_file():
        return
    if not _checkpoints(request):
        raise InputError(
            "holds no checkpoint to go on from",
            where=request["out"],
            hint="Name the --out folder of the stopped run, or leave --resume out to start.",
        )


def _checkpoints(request: dict[str, Any]) -> list[Path]:
    where = ("cells/*/checkpoint", "shared/*") if request["many"] else ("checkpoint",)
    return sorted(p for part in where for p in Path(request["out"]).glob(f"{part}/*.safetensors"))


def stopped(stop: BaseException, request: dict[str, Any]) -> Interrupted:
    """Say what a stopped run left behind, and the command that goes on from it."""
    what = stop.what if isinstance(stop, Interrupted) else "stopped"
    if not _checkpoints(request):
        return Interrupted(f"{what}; nothing was written", hint="Run the same command to start again.")
    command = request["command"].removesuffix(" --resume")
    kept = request["out"] if request["many"] else f"{request['out']}/checkpoint"
    return Interrupted(
        what,
        hint=f"{kept} holds all that was learned; go on with\n  {command} --resume",
    )
