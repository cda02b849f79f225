"""Numbers below 1e-38 are 0 while a CPU trains, where each costs a hundred times what others do."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATE_BYTES = 256  # of the C library's fenv_t: 32 with x86-64, 8 with aarch64


@contextmanager
def flushed(device: torch.device) -> Iterator[None]:
    """Inside, this thread and those that compute for it take subnormals for 0, on a CPU.

    Masks on their way to 0, momenta that fade and the gradients of dead channels end there. Behind it the
    threads do as before.
    """
    before = is_flushing()
    if device.type == "cpu":
        _set(True)  # changes nothing where the processor cannot
    try:
        yield
    finally:
        if device.type == "cpu":
            _set(before)


def is_flushing() -> bool:
    """Whether this thread takes subnormal results for 0; PyTorch can set it and does not tell."""
    tiny = torch.full((1,), torch.finfo(torch.float32).tiny)
    return float(tiny / 2) == 0.0


def _set(flush: bool) -> None:
    """PyTorch sets the calling thread alone, and threads inherit it when they are made: the pool is older."""
    torch.set_flush_denormal(flush)
    share = _sharing() if torch.get_num_threads() > 1 else None
    if share is not None:
        share()


@functools.cache
def _sharing() -> Callable[[], None] | None:
    """Return what gives the floating point state of this thread to PyTorch's OpenMP threads, where it can be.

    Each of them calls the C library's `fesetenv` in a parallel region of their own pool. None where the
    process lists no OpenMP library that is PyTorch's (other systems than Linux).
    """
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        found = {line.split()[-1] for line in maps.splitlines() if "omp" in line and ".so" in line}
        own = {path for path in found if "/torch/lib/" in path} or found
        (path,) = {path for path in own if Path(path).name.startswith(("libgomp", "libiomp", "libomp"))}
        region, system = ctypes.CDLL(path).GOMP_parallel, ctypes.CDLL(None)
        set_state = ctypes.cast(system.fesetenv, ctypes.c_void_p)
        get_state = system.fegetenv
    except (OSError, ValueError, AttributeError):
        return None
    region.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    region.restype = None

    def share() -> None:
        state = ctypes.create_string_buffer(_STATE_BYTES)
        if get_state(state) == 0:
            region(set_state, ctypes.cast(state, ctypes.c_void_p), 0, 0)  # 0: as many threads as PyTorch's

    return share
