"""How long a kernel takes: the forms that a profile may give a family of kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RateModel:
    """The "additive" and the "analytical" form.

    additive: ms = 1e3 (work/macs_per_second + activation bytes/bytes_per_second
    + weight bytes/weight_bytes_per_second) + overhead_ms; analytical: the largest of the three terms
    instead of their sum. `work` is MACs with channels rounded up to `channel_step`, times
    (1 + a/in_channels)(1 + b/out_channels)(1 + c/pixels) where `saturation` gives a, b, c.
    `macs_per_second` is None for kernels that only move memory. Where `spill_bytes` is given, activation
    bytes beyond it (they leave the cache) cost 1/`spill_bytes_per_second` more each.
    """

    form: str
    macs_per_second: float | None
    bytes_per_second: float
    weight_bytes_per_second: float
    overhead_ms: float
    source: str
    channel_step: tuple[int, int] = (1, 1)
    saturation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    op_factor: Mapping[str, float] = field(default_factory=dict)
    spill_bytes: float | None = None
    spill_bytes_per_second: float = 1e12


@dataclass(frozen=True)
class TableModel:
    """Measured rows over a small additive base; `dtp_edge.cost.table` interpolates them."""

    document: Mapping[str, Any]
    source: str
    channel_step: tuple[int, int] = (1, 1)
    op_factor: Mapping[str, float] = field(default_factory=dict)
    form: str = "table"


KernelModel = RateModel | TableModel


def kernel_model(document: Mapping[str, Any]) -> KernelModel:
    """Return the model of one entry of a profile's "kernels"."""
    step = document.get("channel_step", {})
    steps = (step.get("in_channels", 1), step.get("out_channels", 1))
    factor = dict(document.get("op_factor", {}))
    if document["form"] == "table":
        return TableModel(dict(document), document["source"], steps, factor)
    bend = document.get("saturation", {})
    rate = document.get("macs_per_second")
    if document["form"] == "analytical":
        rate = document["macs_per_cycle"] * document["clock_hz"]
    return RateModel(
        form=document["form"],
        macs_per_second=rate,
        bytes_per_second=document["bytes_per_second"],
        weight_bytes_per_second=document.get("weight_bytes_per_second", document["bytes_per_second"]),
        overhead_ms=document["overhead_ms"],
        source=document["source"],
        channel_step=steps,
        saturation=(bend.get("in_channels", 0.0), bend.get("out_channels", 0.0), bend.get("pixels", 0.0)),
        op_factor=factor,
        spill_bytes=document.get("spill_bytes"),
        spill_bytes_per_second=document.get("spill_bytes_per_second", 1e12),
    )
