"""How many output channels a unit computes at a time, from what a profiler calls its kernels.

Networks have channels in eights and sixteens, and show nothing of what 17 cost; pruned ones have any number.
A kernel that is made for vectors of 64 bytes ("avx512") computes the channels of its output in sixteens of
fp32, full or not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dtp_edge.measure.printout_join import Joined

_BYTES = (("avx512", 64), ("avx2", 32), ("avx", 32), ("sse", 16), ("neon", 16), ("asimd", 16))
_ELEMENT = {"fp32": 4, "fp16": 2, "int8": 1}
_FAMILIES = ("conv1x1", "conv3x3", "conv", "depthwise", "linear")  # whose outputs are vectors of channels


def lanes_of(joined: Sequence[Joined], precision: str) -> int:
    """Return the channels of the kernels that take most of the time, 0 where no name says it."""
    spent: dict[int, float] = defaultdict(float)
    for one in joined:
        for row in one.printout.rows:
            name = row.unit.lower()
            spent[next((size for word, size in _BYTES if word in name), 0)] += row.time
    size = max(spent, key=lambda each: spent[each], default=0)
    return size // _ELEMENT.get(precision, 4)


def step_of(family: str, lanes: int) -> tuple[int, int]:
    """Return the step of a family's input and output channels."""
    return (1, lanes if family in _FAMILIES else 1)


def stepped(terms: Sequence[tuple[float, Sequence[tuple[Any, int]]]]) -> float:
    """Return a feature of the dense network: sizes rounded up to their steps."""
    return sum(c * math.prod(math.ceil(dim.size / step) * step for dim, step in found) for c, found in terms)
