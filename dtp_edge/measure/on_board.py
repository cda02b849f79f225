"""The board on the wire: its profile measured, ONNX files timed in turns, by the kit's own script there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.errors import InputError
from dtp_edge.measure.kit import SCRIPT, import_document, write_kit
from dtp_edge.measure.machine import reference_network
from dtp_edge.measure.node_times import quiet_mean
from dtp_edge.measure.profile_check import CheckedNetwork, CheckResult
from dtp_edge.measure.timing import Timing, relative_spread
from dtp_edge.profiles.profile import Profile
from dtp_edge.remote import Remote, run_job

QUICK_PROBES, PROBES = 60, 240
THROTTLED = 1.2  # the reference kernel's time at the end of a measurement over that at its beginning
_COOL = (
    "Let it cool down, fix its clock (cpufreq's performance governor), stop other programs; "
    "then measure again."
)
Count = Callable[[int, int], object]


def board_hello(remote: Remote) -> Mapping[str, Any]:
    """Return what is there: machine, cores, onnxruntime, numpy. Raises `InputError` where no job can run."""
    return run_job(remote, {"kind": "hello"}, {}).result


def measure_board(
    remote: Remote,
    threads: int = 1,
    *,
    quick: bool = False,
    probes: int | None = None,
    options: Sequence[str] = (),
    progress: Count | None = None,
) -> Profile:
    """Send the kit to a board, run it there, and return its profile.

    `options` are those of the kit's script. **Raises:** `InputError` of `run_job`, and where the clock fell.
    """
    count = probes or (QUICK_PROBES if quick else PROBES)
    with tempfile.TemporaryDirectory() as folder:
        kit = write_kit(Path(folder) / "kit.zip", count)
        job = {"kind": "probe", "threads": threads, "options": list(options)}
        answer = run_job(remote, job, {"kit.zip": kit}, progress).result
    refuse_throttled(remote, answer)
    return import_document(answer.get("results"), remote.name, None)


def refuse_throttled(remote: Remote, answer: Mapping[str, Any]) -> None:
    """Raise `InputError` where the reference kernel slowed down in the job: its times are of two clocks."""
    slowdown = answer.get("slowdown")
    if isinstance(slowdown, int | float) and slowdown > THROTTLED:
        raise InputError(
            "its clock fell while it was measured: the reference kernel took "
            f"{slowdown:.2f} times as long at the end",
            where=remote.name,
            hint=_COOL,
        )


def refuse_other_machine(remote: Remote, profile: Profile, machine: str) -> None:
    """Raise `InputError` where a measured profile says that its processor is of another kind."""
    own = profile.device.cores.rpartition(" x ")[2]
    if " x " in profile.device.cores and own != machine:
        raise InputError(
            f"is a {machine}, and profile {profile.name} was measured on a {own}",
            where=remote.name,
            hint="Name the profile's own board, or measure this one: `dtp-edge profile measure --on`.",
        )


def time_on(
    remote: Remote,
    paths: Sequence[Path],
    threads: int = 1,
    *,
    seconds: float = 5.0,
    profile: Profile | None = None,
    progress: Count | None = None,
) -> tuple[list[Timing], np.ndarray]:
    """Time ONNX files there in turns; return a `Timing` a file, and the reference kernel's samples in ms.

    **Raises:** `InputError` of `run_job`, for a fallen clock, and for a board that is not `profile`'s.
    """
    names = [f"{index}.onnx" for index in range(len(paths))]
    files = {
        "measure.py": SCRIPT,
        "reference.onnx": reference_network(),
        **dict(zip(names, paths, strict=True)),
    }
    job = {"kind": "time", "threads": threads, "files": names, "rounds": 200, "seconds": seconds}
    answer = run_job(remote, job, files, progress)
    if profile is not None:
        refuse_other_machine(remote, profile, answer.machine)
    refuse_throttled(remote, answer.result)
    samples = _samples(remote, answer.result, len(paths))
    timings = [
        Timing(
            str(path),
            float(np.median(row)),
            relative_spread(row),
            len(row),
            float(row.min()),
            tuple(row.tolist()),
        )
        for path, row in zip(paths, samples, strict=True)
    ]
    return timings, np.asarray(answer.result["reference_ms"], dtype=np.float64)


def check_on(
    remote: Remote,
    models: Sequence[tuple[str, Path, float]],
    profile: Profile,
    *,
    seconds: float = 30.0,
    progress: Count | None = None,
) -> CheckResult:
    """Hold a profile against times taken on the board; `check_profile` says what the arguments are."""
    paths = [path for _, path, _ in models]
    timings, reference = time_on(
        remote, paths, profile.threads, seconds=seconds, profile=profile, progress=progress
    )
    now, then = float(quiet_mean(reference)), profile.provenance.reference_ms
    slowdown = now / then if then else 1.0
    rows = []
    for (name, _, predicted), timing in zip(models, timings, strict=True):
        samples = np.array(timing.samples_ms) / slowdown
        rows.append(
            CheckedNetwork(
                name, predicted, float(quiet_mean(samples)), float(np.median(samples)), timing.spread
            )
        )
    quiet = float((reference <= 1.25 * np.quantile(reference, 0.05)).mean())
    return CheckResult(profile.name, tuple(rows), now, quiet, profile.runtime.version, slowdown)


def _samples(remote: Remote, result: Mapping[str, Any], count: int) -> np.ndarray:
    hint = "Check that the host is the board that you mean."
    try:
        samples = np.asarray(result["samples_ms"], dtype=np.float64)
        reference = np.asarray(result["reference_ms"], dtype=np.float64)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError("sent no times", where=remote.name, hint=hint) from error
    good = samples.ndim == 2 and samples.shape[0] == count and samples.shape[1] >= 1 and reference.ndim == 1
    if not good or not (samples > 0).all() or not reference.size or not (reference > 0).all():
        raise InputError("sent times that are not valid", where=remote.name, hint=hint)
    return samples
