"""What a network costs on an int8 device when some of its layers stay in float.

Such a layer reads its input and writes its output once more, in float, beside the rounded ones; its weights
take four bytes. Its time is that of a shipped float profile of the same device and runtime; where there is
none, a budget in time cannot be held, and that is said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtp_edge.cost import NetworkCost
from dtp_edge.measure import load_profile
from dtp_edge.metrics import quantity, title
from dtp_edge.profiles import Profile, list_profiles
from dtp_edge.run.proved import Cut

__all__ = ["float_sibling", "price_in_float"]

CONVERTED_BYTES = 5  # a value read and written: one byte rounded, four in float
_TIMED = ("latency_ms", "energy_mj")


def price_in_float(cut: Cut, weights: Sequence[str]) -> tuple[bool, str]:
    """Return whether the budget holds with the layers of these weights in float; and in words what the
    network then costs, or why that is not known."""
    cost, limits = cut.task.cost, cut.task.limits
    sizes = cut.task.network.layers.sizes(cut.keep.astype(float))
    names = {layer.name for layer in cost.layers.layers if {*layer.inputs} & {*weights}}
    found = cost.evaluate(sizes)
    if sibling := float_sibling(cost.profile):
        added = _added_ms(cost, sibling, sizes, names)
        found["latency_ms"] += added
        if cost.profile.power is not None:
            found["energy_mj"] += added * cost.profile.power.watts
    elif timed := [title(m) for m in _TIMED if m in limits]:
        where = f"{cost.profile.device.name} with {cost.profile.runtime.name}"
        return False, f"no float profile of {where} is shipped: the {timed[0]} of float layers is not known"
    wide = {row.name: row for row in NetworkCost(cost.layers, cost.profile, "fp32").by_layer(sizes)}
    rows = {row.name: row for row in cost.by_layer(sizes)}
    found["flash_bytes"] += sum(wide[n].weight_bytes - rows[n].weight_bytes for n in names)
    live = dict(cost.memory_schedule(sizes))
    copies = {n: wide[n].activation_bytes for n in names if n in live}
    found["peak_ram_bytes"] = max(live[n] + copies.get(n, 0.0) for n in live)
    over = [m for m, limit in limits.items() if found.get(m, 0.0) > limit * (1 + 1e-9)]
    told = [
        f"{title(m)} {quantity(m, found[m])} of {quantity(m, limits[m])}"
        for m in over or limits
        if m in found
    ]
    count = f"{len(names)} layer{'s' if len(names) > 1 else ''} in float"
    return not over, f"{count}: {', '.join(told)}" + (", over the budget" if over else "")


def float_sibling(profile: Profile) -> Profile | None:
    """Return the shipped float profile of the same device, runtime and threads, fp32 before fp16."""
    found = [load_profile(name) for name in list_profiles()]
    same = [p for p in found if p.precision in ("fp32", "fp16") and _where(p) == _where(profile)]
    return min(same, key=lambda p: p.precision != "fp32", default=None)


def _where(profile: Profile) -> tuple[str, str, int]:
    return profile.device.name, profile.runtime.name, profile.threads


def _added_ms(cost: NetworkCost, sibling: Profile, sizes: np.ndarray, names: set[str]) -> float:
    """Return what these layers take in float beyond their int8 time, turned there and back."""
    rows = {row.name: row for row in cost.by_layer(sizes)}
    floats = {row.name: row for row in NetworkCost(cost.layers, sibling).by_layer(sizes)}
    rate = cost.profile.memory_bytes_per_second
    turned = sum(CONVERTED_BYTES * rows[n].activation_bytes / rate for n in names)
    return 1e3 * turned + sum(max(0.0, floats[n].latency_ms - rows[n].latency_ms) for n in names)
