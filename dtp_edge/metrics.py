"""What a network can cost, and what it is judged by: names, units, and values as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
TOP1 = "top-1 accuracy"
HELD_OUT = ("holdout_accuracy", "holdout_metric")  # of a step, by what is trained for: top-1, or another


def fraction(text: str) -> float:
    """Return what `95%` or `0.95` says; NaN where it is neither."""
    text = text.strip()
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return math.nan


@dataclass(frozen=True)
class Headline:
    """The number that an objective is judged by.

    With the unit "%" values are shares, 0..1, and shown times 100; `decimals` are those of what is shown.
    """

    name: str
    unit: str = "%"
    higher_is_better: bool = True
    decimals: int = 2

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> Headline:
        """Return what a report's section `accuracy` is about; up to 1.3 all were shares of a whole."""
        facts = {k: v for k, v in (facts or {}).items() if v is not None}
        return cls(
            facts.get("metric", "accuracy"),
            facts.get("unit", "%"),
            facts.get("higher_is_better", True),
            facts.get("decimals", 2),
        )

    @property
    def factor(self) -> float:
        """What a value is multiplied by where it is shown."""
        return 100.0 if self.unit == "%" else 1.0

    def text(self, value: float | None, decimals: int | None = None) -> str:
        """Return a value as people read it: `81.25 %`, `31.20 dB`."""
        if value is None:
            return NONE
        places = self.decimals if decimals is None else decimals
        return f"{self.factor * value:.{places}f} {self.unit}".strip()

    def gap(self, difference: float | None) -> str:
        """Return a difference with its sign, a real minus: `−0.3 points`, `+1.20 dB`."""
        if difference is None:
            return NONE
        places, unit = (1, "points") if self.unit == "%" else (self.decimals, self.unit)
        value = round(self.factor * difference, places) + 0.0
        sign = "±" if value == 0 else ""
        text = f"{value:{'' if sign else '+'}.{places}f}".replace("-", "−")
        return f"{sign}{text} {unit}".strip()

    def worth(self, value: float | None) -> float:
        """Return a number that is larger the better `value` is; nothing is worth 0, or least of all."""
        if value is None:
            return 0.0 if self.higher_is_better else -math.inf
        return value if self.higher_is_better else -value

    def better(self, value: float, other: float | None) -> bool:
        """Return whether `value` is at least as good as `other`; anything is better than None."""
        return other is None or self.worth(value) >= self.worth(other)


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
