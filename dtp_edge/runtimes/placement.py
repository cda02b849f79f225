"""Which unit runs what: the operators of a file in its runtime, and what share of the predicted time each is.

A runtime names its operators in its own words and fuses them its own way; ours are the kernels of the
profile. Both are put into families (convolutions, matrix products, ...), and the k-th of a family is taken
for the k-th of ours where there are as many; else a family's time is divided evenly among its operators. A
family that the runtime has fused away into others has no operator of its own: its time counts for nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_OPERATORS = 20_000

# what a runtime's or our own word for a kind of operator holds, in the order in which they are tried
_FAMILIES = (
    ("rounding", ("quantize",)),  # into int8 and back, at the edge of a unit
    ("free", ("getitem", "reshape", "view", "squeeze", "flatten", "expand", "dropout", "split", "free")),
    ("convolution", ("conv", "deconv", "depthwise", "grouped")),
    ("product", ("linear", "fully", "innerproduct", "addmm", "matmul", "mm", "gemm", "einsum", "attention")),
    ("recurrent", ("lstm", "gru", "rnn", "recurrent")),
    ("pool", ("pool", "mean", "reduce")),
    ("softmax", ("softmax",)),
    ("norm", ("norm", "mvn")),
    ("resize", ("resize", "interp", "upsample", "upsampling")),
    (
        "copy",
        (
            *(
                "permute",
                "transpose",
                "concat",
                "cat",
                "slice",
                "pad",
                "reorder",
                "copy",
                "shuffle",
                "gather",
            ),
            *("clone", "layout", "embedding"),
        ),
    ),
)
_OTHERS = "elementwise"


@dataclass(frozen=True)
class Operator:
    """One operator as the runtime has it. `delegated`: the accelerated unit takes it; `share` of the time."""

    name: str
    kind: str
    delegated: bool
    share: float = 0.0


@dataclass(frozen=True)
class Placement:
    """Who computes what in one file: `unit` is the accelerated one, `by` what the shares are shares of."""

    unit: str
    operators: tuple[Operator, ...]
    by: str

    @property
    def delegated(self) -> float:
        """The share of the time that the unit takes, in [0, 1]."""
        return sum(one.share for one in self.operators if one.delegated)

    @property
    def left(self) -> tuple[Operator, ...]:
        """The operators that stay behind, the most time first."""
        behind = [one for one in self.operators if not one.delegated]
        return tuple(sorted(behind, key=lambda one: -one.share))


def family_of(kind: str) -> str:
    """Return the family of a kind of operator, in a runtime's words or in ours."""
    word = kind.lower()
    return next((name for name, parts in _FAMILIES if any(p in word for p in parts)), _OTHERS)


def placement_of(
    facts: Mapping[str, Any], kernels: Sequence[tuple[str, float]] | None = None
) -> Placement | None:
    """Return who computes what, from what an adapter said of a file; None where it could not be read.

    `kernels` are ours in running order: (kind, predicted ms). Without them every operator that computes
    something counts the same.
    """
    rows = facts.get("operators")
    if not isinstance(rows, list) or not rows or len(rows) > MOST_OPERATORS:
        return None
    found = [
        Operator(str(row["name"])[:200], str(row["kind"])[:100], bool(row["delegated"]))
        for row in rows
        if isinstance(row, dict) and {"name", "kind", "delegated"} <= set(row)
    ]
    times = _times(found, kernels) if kernels else []
    by = "predicted time" if sum(times) > 0 else "operators"
    if by == "operators":
        times = [0.0 if family_of(one.kind) in ("free", "rounding") else 1.0 for one in found]
    total = sum(times) or 1.0
    placed = [
        Operator(one.name, one.kind, one.delegated, time / total)
        for one, time in zip(found, times, strict=True)
    ]
    return Placement(str(facts.get("unit", "")), tuple(placed), by)


def _times(operators: Sequence[Operator], kernels: Sequence[tuple[str, float]]) -> list[float]:
    ours: dict[str, list[float]] = {}
    for kind, latency_ms in kernels:
        ours.setdefault(family_of(kind), []).append(latency_ms)
    theirs: dict[str, list[int]] = {}
    for place, one in enumerate(operators):
        theirs.setdefault(family_of(one.kind), []).append(place)
    times = [0.0] * len(operators)
    for family, places in theirs.items():
        known = ours.get(family, [])
        even = sum(known) / len(places)
        for k, place in enumerate(places):
            times[place] = known[k] if len(known) == len(places) else even
    return times
