"""Kernels of a network that lie outside of what a profile was measured or fitted on.

A table says how long kernels take near its rows; far from all of them only its base speaks. What is far is a
value: the layer, its share of the time, and why. Rates of published tables know no range, and say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

FAR = 2.0  # length scales: there a measured neighbour weighs 0.14 of what it does at hand
NOTABLE = 0.1  # share of a network's time from which a person is told
_SAID = {
    "cin": "input channels",
    "cout": "output channels",
    "cin_of_group": "input channels of a group",
    "cout_of_group": "output channels of a group",
    "pixels": "output pixels",
    "out_w": "width of the output",
    "kernel": "size of the kernel",
    "in_bytes": "bytes read",
    "out_bytes": "bytes written",
    "last": "size of the last dimension",
    "rank": "dimensions",
    "rows": "rows of the product",
    "rows_of_batch": "rows of the product",
    "batch": "products at once",
    "network_bytes": "weights of the whole network",
}


@dataclass(frozen=True)
class Outside:
    """A layer that the profile's own measurements say little of; `share` is of the network's time."""

    layer: str
    family: str
    share: float
    why: str


class Costs(Protocol):
    """What costs a network at any widths: `NetworkCost`."""

    def outside(self, sizes: np.ndarray) -> list[Outside]: ...


def far_from_rows(family: str, far: float, coordinate: str) -> str:
    """Return why a kernel is outside, "" where it is near enough to a measured one."""
    if far <= FAR:
        return ""
    what = _SAID.get(coordinate, coordinate)
    return f"no {family} of such a shape was measured; the nearest differs most in {what}"


def outside_text(found: Sequence[Outside], profile: str) -> str:
    """Return one sentence for a person, "" where too little of the time is outside to say so."""
    if not is_notable(found):
        return ""
    share = sum(one.share for one in found)
    worst = max(found, key=lambda one: one.share)
    layers = "1 layer" if len(found) == 1 else f"{len(found)} layers"
    return (
        f"{share:.0%} of the predicted time is of {layers} outside of what {profile} was measured on "
        f"({worst.layer}: {worst.why}): the profile's error does not hold for this network. Measure the "
        "network on the device, or import a profile of networks like it."
    )


def most_outside(cost: Costs, *widths: np.ndarray) -> tuple[Outside, ...]:
    """Return what is outside at those widths of a network at which most of its time is."""
    each = [tuple(cost.outside(sizes)) for sizes in widths]
    return max(each, key=lambda found: sum(one.share for one in found))


def is_notable(found: Sequence[Outside]) -> bool:
    return sum(one.share for one in found) >= NOTABLE


def shares(latency_ms: np.ndarray) -> np.ndarray:
    total = float(latency_ms.sum())
    return latency_ms / total if total > 0 else np.zeros_like(latency_ms)
