"""Budgets in the user's own terms, and what they mean for one network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from dtp_edge.errors import InputError, nearest
from dtp_edge.metrics import UNITS, title

__all__ = ["KEPT", "LAYER_KEEP", "UNITS", "Budget"]

KEPT = "kept_channels"  # the only metric that transport counts itself: it needs no profile
LAYER_KEEP = "layer_keep"  # the share of its own ratio that a group uses, in per cent, of the worst group
_METRIC = {
    "latency": "latency_ms",
    "ram": "peak_ram_bytes",
    "flash": "flash_bytes",
    "macs": "macs",
    "params": "params",
    "keep": KEPT,
    "energy": "energy_mj",
}
_TIME = {"": 1.0, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "ns": 1e-6, "s": 1e3}
_BYTES = {
    "": 1.0, "b": 1.0, "byte": 1.0, "bytes": 1.0,
    "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30,
}  # fmt: skip
_ENERGY = {"": 1.0, "mj": 1.0, "uj": 1e-3, "µj": 1e-3, "nj": 1e-6, "j": 1e3}
_COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_SUFFIXES = {
    "latency": _TIME, "ram": _BYTES, "flash": _BYTES, "macs": _COUNT, "params": _COUNT, "keep": {},
    "energy": _ENERGY,
}  # fmt: skip
_FRACTIONS = ("latency", "energy")  # that may be less than one of their unit
_EXAMPLE = {
    "latency": '"60%", "25ms" or 25.0 (milliseconds)',
    "ram": '"60%", "256KiB" or 262144 (bytes)',
    "flash": '"60%", "1MiB" or 1048576 (bytes)',
    "macs": '"50%", "300M" or 300e6',
    "params": '"50%", "1.5M" or 1500000',
    "keep": '"50%" or 0.5 (share of all channels)',
    "energy": '"60%", "5mJ" or 5.0 (millijoules an inference)',
}
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Zµ%]*)\s*")
Amount = str | float | int | None


@dataclass(frozen=True)
class Budget:
    """What the pruned network may cost; everything that is set must hold.

    Each entry is absolute, in its own unit, or a percentage of the dense network.

    - `latency`: `"25ms"`, `25.0` (ms), `"60%"`
    - `ram`, `flash`: `"256KiB"`, `262144` (bytes), `"60%"`
    - `macs`, `params`: `"300M"`, `300e6`, `"50%"`
    - `keep`: share of all removable channels to keep, over the whole network: `"50%"` or `0.5`
    - `layer_keep`: the same share in every layer, or `{group name: share}` (the paper's mode)
    - `energy`: an inference's, where the profile knows the board's power: `"5mJ"`, `5.0` (mJ), `"60%"`

    **Raises:** `InputError` for anything else, and if nothing is set.
    """

    latency: Amount = None
    ram: Amount = None
    flash: Amount = None
    macs: Amount = None
    params: Amount = None
    keep: Amount = None
    layer_keep: Amount | Mapping[str, Amount] = None
    energy: Amount = None

    def __post_init__(self) -> None:
        if all(getattr(self, f.name) is None for f in fields(self)):
            raise InputError("the budget is empty.", hint='Give at least one of them, e.g. latency="60%".')
        for name in _METRIC:
            if getattr(self, name) is not None:
                _parse(name, getattr(self, name))
        self.layer_shares(())

    def limits(self, dense: Mapping[str, float]) -> dict[str, float]:
        """Return `{metric: limit}` for the dense costs `{metric: cost}` (ms, bytes, counts)."""
        found: dict[str, float] = {}
        for name, metric in _METRIC.items():
            value = getattr(self, name)
            if value is None:
                continue
            amount, relative = _parse(name, value)
            if relative and metric != KEPT and metric not in dense:
                raise InputError(
                    f"no dense {metric} is known to take {value!r} of.",
                    where=f"budget {name}",
                    hint="Give it in its own unit, or the dense cost.",
                )
            if relative and dense.get(metric) == 0:
                raise InputError(
                    f"{value!r} of nothing: the dense network's {title(metric)} is 0.",
                    where=f"budget {name}",
                    hint="Check that this is the network you mean; there is nothing in it to prune.",
                )
            # a share of all channels needs no dense cost: the meter knows the total
            found[metric] = amount * dense[metric] if relative and metric in dense else amount
        return found

    def layer_shares(self, groups: tuple[str, ...] | list[str]) -> dict[str, float]:
        """Return `{group name: share to keep}` for the layer-wise budget; empty if there is none."""
        given = self.layer_keep
        if given is None:
            return {}
        if isinstance(given, Mapping):
            unknown = [name for name in given if groups and name not in groups]
            if unknown:
                near = nearest(unknown[0], groups) or list(groups)[:8]
                raise InputError(
                    f"no group is called {unknown[0]!r}.",
                    where="budget layer_keep",
                    hint=f"Nearest of {len(groups)}: {', '.join(near)}. A plan with -v lists all of them.",
                )
            return {name: _parse("keep", share)[0] for name, share in given.items() if share is not None}
        share = _parse("keep", given)[0]
        return dict.fromkeys(groups, share)

    def texts(self) -> dict[str, str]:
        """Return `{metric: what the user typed}`."""
        found = {m: str(getattr(self, n)) for n, m in _METRIC.items() if getattr(self, n) is not None}
        given = self.layer_keep
        if isinstance(given, Mapping):
            found[LAYER_KEEP] = ", ".join(f"{name} {share}" for name, share in given.items())
        elif given is not None:
            found[LAYER_KEEP] = f"{given} of every group"
        return found

    def __str__(self) -> str:
        named = ((f.name, getattr(self, f.name)) for f in fields(self))
        return ", ".join(f"{name} {value}" for name, value in named if value is not None)


def _parse(name: str, value: object) -> tuple[float, bool]:
    """Return (amount, relative to dense?) or raise an `InputError` that shows how to write it."""
    where, hint = f"budget {name}", f"Write {_EXAMPLE[name]}."
    if isinstance(value, bool) or not (isinstance(value, str) or hasattr(value, "__float__")):
        raise InputError(f"cannot read {value!r}.", where=where, hint=hint)
    if not isinstance(value, str):
        value = float(value)  # type: ignore[arg-type]  # numpy and torch scalars too
    number, suffix = float(value) if not isinstance(value, str) else 0.0, ""
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None:
            raise InputError(f"cannot read {value!r}.", where=where, hint=hint)
        number, suffix = float(match[1]), match[2]
    if math.isnan(number) or math.isinf(number) or number <= 0:
        raise InputError(f"{value!r} is not a finite number above 0.", where=where, hint=hint)
    if suffix == "%" or name == "keep":
        return _share(number / 100 if suffix == "%" else number, value, suffix, where, hint)
    units = _SUFFIXES[name]
    if suffix.lower() not in units:
        known = ", ".join(u for u in units if u)
        raise InputError(f"{value!r} has the unit {suffix!r}; known are {known}, %.", where=where, hint=hint)
    amount = number * units[suffix.lower()]
    if name not in _FRACTIONS and amount < 1:
        raise InputError(f"{value!r} is less than one {name} unit.", where=where, hint=hint)
    return amount, False


def _share(share: float, value: object, suffix: str, where: str, hint: str) -> tuple[float, bool]:
    if suffix not in ("", "%"):
        raise InputError(f"cannot read {value!r}.", where=where, hint=hint)
    if share > 1:
        raise InputError(f"{value!r} is more than the dense network has.", where=where, hint=hint)
    return share, True
