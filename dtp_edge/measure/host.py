"""The device "host": this machine's measured profile, kept in the user's cache.

A profile belongs to one processor model, runtime version and thread count; another of them measures anew.
The first need measures in quick mode; `dtp-edge profile measure` replaces that by the full measurement.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

import onnxruntime as ort
import platformdirs

from dtp_edge.errors import InputError
from dtp_edge.measure.machine import cpu_model
from dtp_edge.measure.procedure import OnProbe, measure_host
from dtp_edge.profiles.profile import Profile, parse_profile, save_profile
from dtp_edge.profiles.schema import SCHEMA_VERSION, read_profile_json

CACHE_VARIABLE = "DTP_EDGE_CACHE"
_FORMAT = 2  # of the measurement itself: older caches are measured again


def host_profile(threads: int = 1, *, quick: bool = True, progress: OnProbe | None = None) -> Profile:
    """Return this machine's profile from the cache; measure it (in less than 40 s) if there is none.

    A full measurement in the cache is preferred to a quick one. With `quick=False` the full measurement
    is made now and cached.

    **Raises:** `InputError` if the machine is too busy to be measured.
    """
    if quick:
        for path in (cache_path(threads, quick=False), cache_path(threads, quick=True)):
            cached = _read(path)
            if cached is not None:
                return cached
        print(
            "Measuring this machine once (less than 40 s; kept for later runs) ...",
            file=sys.stderr,
            flush=True,
        )
    profile = measure_host(threads, quick=quick, progress=progress)
    try:
        save_profile(profile.document, cache_path(threads, quick=quick))
    except OSError as error:
        warnings.warn(f"the host profile cannot be cached ({error}); it will be measured again", stacklevel=2)
    return profile


def cache_path(threads: int = 1, *, quick: bool = True) -> Path:
    """Return where this machine's profile is kept."""
    return cache_folder() / f"host-{fingerprint(threads)}-{'quick' if quick else 'full'}.json"


def cache_folder() -> Path:
    """Return the cache folder: `DTP_EDGE_CACHE`, or `dtp_edge` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else platformdirs.user_cache_path("dtp_edge", appauthor=False)


def fingerprint(threads: int = 1) -> str:
    """Return a short key of processor model, runtime version and threads."""
    facts = (cpu_model(), platform.machine(), str(os.cpu_count()), ort.__version__, str(threads))
    text = "|".join((*facts, f"{SCHEMA_VERSION}.{_FORMAT}"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_this_machine(profile: Profile) -> bool:
    """Return whether a profile was measured on a machine like this one, for the runtime installed here:
    then its predictions can be checked by timing."""
    return (
        profile.runtime.name == "ONNX Runtime"
        and profile.runtime.version == ort.__version__
        and profile.device.chip == cpu_model()
        and profile.device.cores == f"{os.cpu_count()} x {platform.machine()}"
    )


def _read(path: Path) -> Profile | None:
    if not path.is_file():
        return None
    try:
        return parse_profile(read_profile_json(path))
    except InputError as error:
        warnings.warn(f"the cached host profile is measured again: {error}", stacklevel=3)
        return None
