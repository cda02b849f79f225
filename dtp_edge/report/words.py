"""Figures as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

METRICS = {
    "latency_ms": "Latency",
    "peak_ram_bytes": "Peak RAM",
    "flash_bytes": "Flash",
    "macs": "MACs",
    "params": "Parameters",
}
NONE = "–"


def metric_title(metric: str) -> str:
    return METRICS.get(metric, metric)


def figure(value: float | None, unit: str) -> str:
    """Return `value` with its unit, to three digits: `12.4 ms`, `128 KiB`, `40.6 M`."""
    if value is None:
        return NONE
    if unit == "bytes":
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
    if unit in ("MACs", "parameters"):
        return _scaled(value, 1000, ("", "k", "M", "G", "T")).strip()
    if unit == "ms" and 0 < value < 0.01:
        return f"{digits(1000 * value)} µs"
    return f"{digits(value)} {unit}"


def digits(value: float, count: int = 3) -> str:
    """Return `value` to `count` significant digits: 0.0123, 12.3, 1.23e-05."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else NONE
    exponent = int(f"{value:.{count - 1}e}".partition("e")[2])  # of the rounded value: 0.9999 is 1.00
    if not -3 <= exponent < 9:
        return f"{value:.{count - 1}e}"
    return f"{value:.{max(0, count - 1 - exponent)}f}"


def fact(key: str, value: object) -> str:
    """Return one entry of a free table (machine, settings) as `key: value`, bytes as people read them."""
    if key.endswith("_bytes") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{key.removesuffix('_bytes')}: {figure(value, 'bytes')}"
    return f"{key.replace('_', ' ')}: {value}"


def layer_name(layer: Mapping[str, Any], shared: Mapping[str | None, int]) -> str:
    """Return what a person calls a layer: its module, with the operator where several share the module."""
    name, module = layer["name"], layer.get("module")
    if not module or module == name:
        return name
    alone = shared.get(module) == 1 and not layer.get("fused_into")
    return module if alone else f"{module} {name}"


def percent(fraction: float | None, places: int = 1) -> str:
    return NONE if fraction is None else f"{100 * fraction:.{places}f} %"


def points(difference: float) -> str:
    """Return a difference of two fractions in percentage points, signed, with a real minus sign."""
    value = round(100 * difference, 1) + 0.0
    text = "±0.0" if value == 0 else f"{value:+.1f}".replace("-", "−")
    return f"{text} points"


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{digits(value)} s"


def sentence(text: str) -> str:
    """Return `text` with a capital first letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def shape(dims: list[int] | None) -> str:
    return NONE if dims is None else " × ".join(str(d) for d in dims)


def short(text: str, limit: int = 40) -> str:
    """Return `text` cut in the middle to at most `limit` characters."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return text[:head] + "…" + text[len(text) - (limit - 1 - head) :]


def _scaled(value: float, base: int, names: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value /= base
        power += 1
    text = f"{value:.0f}" if power == 0 and value == int(value) else digits(value)
    return f"{text} {names[power]}"
