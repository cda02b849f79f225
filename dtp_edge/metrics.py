"""What a network can cost: the name of each metric, its unit, and its values as people read them."""

from __future__ import annotations

import math

UNITS = {
    "latency_ms": "ms",
    "peak_ram_bytes": "bytes",
    "flash_bytes": "bytes",
    "macs": "MACs",
    "params": "parameters",
    "energy_mj": "mJ",
    "kept_channels": "channels",
    "layer_keep": "%",
}
TITLES = {
    "latency_ms": "latency",
    "peak_ram_bytes": "peak RAM",
    "flash_bytes": "flash",
    "macs": "MACs",
    "params": "parameters",
    "energy_mj": "energy",
    "kept_channels": "channels",
    "layer_keep": "keep ratio used",  # of the group that is nearest to its own ratio
}
COUNTED = ("macs", "params", "kept_channels", "layer_keep")  # counted, not estimated: they have no error
NONE = "–"


def title(metric: str) -> str:
    return TITLES.get(metric, metric)


def quantity(metric: str, value: float | None) -> str:
    """Return a value of `metric` with its unit, short: `12.3 ms`, `256 KiB`, `41.2 M`."""
    return figure(value, UNITS.get(metric, ""))


def figure(value: float | None, unit: str) -> str:
    """Return `value` with its unit, to three digits: `12.4 ms`, `128 KiB`, `40.6 M`."""
    if value is None:
        return NONE
    if unit == "bytes":
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
    if unit in ("MACs", "parameters"):
        return _scaled(value, 1000, ("", "k", "M", "G", "T")).strip()
    if unit == "channels":
        return f"{value:.0f}"
    if unit == "ms" and 0 < value < 0.01:
        return f"{digits(1000 * value)} µs"
    if unit == "mJ" and 0 < value < 0.1:
        return f"{digits(1000 * value)} µJ"
    return f"{digits(value)} {unit}".strip()


def digits(value: float, count: int = 3) -> str:
    """Return `value` to `count` significant digits: 0.0123, 12.3, 1.23e-05."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else NONE
    exponent = int(f"{value:.{count - 1}e}".partition("e")[2])  # of the rounded value: 0.9999 is 1.00
    if not -3 <= exponent < 9:
        return f"{value:.{count - 1}e}"
    return f"{value:.{max(0, count - 1 - exponent)}f}"


def duration(seconds: float | None) -> str:
    """Return a time as people say it: `4.20 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds is None:
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{digits(seconds)} s"


def _scaled(value: float, base: int, names: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value /= base
        power += 1
    text = f"{value:.0f}" if power == 0 and value == int(value) else digits(value)
    return f"{text} {names[power]}"
