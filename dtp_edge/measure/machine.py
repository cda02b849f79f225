"""What this machine is, how fast it is right now, and whether it is quiet enough to be measured."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import numpy as np
import psutil

from dtp_edge.errors import InputError
from dtp_edge.measure.node_times import quiet_mean
from dtp_edge.measure.probe_builder import Builder
from dtp_edge.measure.timing import bind, make_session, random_feed

BUSY_FACTOR, MIN_QUIET_SHARE = 1.25, 0.25
SETTLE_SECONDS = 5.0


class Reference:
    """One small convolution that is timed again and again: it shows how busy the machine is."""

    def __init__(self, threads: int = 1) -> None:
        session = make_session(reference_network(), threads)
        self._run = bind(session, random_feed(session))
        self._samples: list[float] = []
        for _ in range(20):
            self._run()

    def sample(self) -> None:
        """Time the kernel once (warm)."""
        self._run()
        start = time.perf_counter()
        self._run()
        self._samples.append(1e3 * (time.perf_counter() - start))

    def forget(self) -> None:
        self._samples.clear()

    def quiet_ms(self) -> float:
        return float(quiet_mean(np.array(self._samples)))

    def quiet_share(self) -> float:
        """Return the share of samples within 25 % of the fastest twentieth."""
        samples = np.array(self._samples)
        return float((samples <= BUSY_FACTOR * np.quantile(samples, 0.05)).mean())

    def refuse_if_busy(self) -> None:
        """Raise `InputError` if fewer than a quarter of the samples were undisturbed."""
        share = self.quiet_share()
        if len(self._samples) >= 20 and share < MIN_QUIET_SHARE:
            raise InputError(
                f"this machine is too busy to be measured: only {share:.0%} of the reference samples "
                f"were undisturbed (load average {psutil.getloadavg()[0]:.1f})",
                where="profile measure",
                hint="Stop other programs and run it again, or give the name of a shipped profile.",
            )


def reference_network() -> bytes:
    """Return the reference as ONNX: the same on this machine and in the kit, so that their times compare."""
    builder = Builder(np.random.default_rng(0), 64, 28, 28)
    for _ in range(2):
        builder.conv(64, 3)
        builder.act("Relu")
    return builder.finish(64, 28, 28)


class CpuShare:
    """How much of the time since its making this process had a processor."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def refuse_if_less(self, least: float) -> None:
        """Raise `InputError` if, after a few seconds, other programs took so much that less than `least`
        was left: single calls may look undisturbed then, but caches and clocks are not this program's."""
        seconds = time.monotonic() - self._wall
        share = (time.process_time() - self._cpu) / max(seconds, 1e-9)
        if seconds >= SETTLE_SECONDS and share < least:
            raise InputError(
                f"this machine is too busy to be measured: other programs left this one the processor for "
                f"only {share:.0%} of the time (load average {psutil.getloadavg()[0]:.1f})",
                where="profile measure",
                hint="Stop other programs and run it again, or give the name of a shipped profile.",
            )


def machine_facts() -> dict[str, Any]:
    """Return name, chip, cores, clock_mhz, ram_bytes and the measured memory bandwidth."""
    info = _cpu_info()
    chip = info.get("model name") or info.get("Hardware") or info.get("Model") or platform.processor()
    return {
        "name": "this machine",
        "chip": chip or platform.machine() or "unknown",
        "cores": f"{os.cpu_count()} x {platform.machine()}",
        "clock_mhz": _clock_mhz(info),
        "ram_bytes": float(ram_bytes()),
        "memory_bytes_per_second": copy_bytes_per_second(),
    }


def copy_bytes_per_second(mebibytes: int = 32, repeats: int = 7) -> float:
    """Return how many bytes a second a large copy reads and writes on one thread."""
    source = np.ones(mebibytes << 18, dtype=np.float32)
    target = np.empty_like(source)
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2.0 * source.nbytes / best


def cpu_model() -> str:
    """Return the processor's own name."""
    return str(_cpu_info().get("model name") or platform.processor() or platform.machine())


def _cpu_info() -> dict[str, str]:
    """Return what Linux says of the first processor, {} elsewhere. (psutil knows no processor's name.)"""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            pairs = [line.split(":", 1) for line in stream if ":" in line]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, value in reversed(pairs)}


def _clock_mhz(info: dict[str, str]) -> float:
    """Return the clock that Linux shows, else the highest that psutil knows, else 1 GHz."""
    if "cpu MHz" in info:
        return float(info["cpu MHz"])
    clock = psutil.cpu_freq()
    return float(clock.max or clock.current or 1000.0) if clock is not None else 1000.0


def ram_bytes() -> int:
    """Return this machine's memory."""
    return psutil.virtual_memory().total
