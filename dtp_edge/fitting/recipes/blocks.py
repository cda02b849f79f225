"""TFLite profiles from measured FBNet blocks (HW-NAS-Bench, through HELP): Raspberry Pi 4 and Pixel 3.

Each latency is a block's minus that of the stage's skip. Where the stage changes shape, that skip is
itself a 1x1 convolution with the stage's stride, so its kernel is subtracted from the block's here;
without that the Pixel 3's held-out error is 8.7 % instead of 6.6 %.

TFLite has no grouped convolution: it splits, convolves each group and concatenates, so grouped layers have an
activation rate and a launch of their own. A block is timed in a loop, and its weights stay in the last cache
(BCM2711: 1 MiB; Snapdragon 845: 2 MiB) as far as they fit; the rest comes from memory.

What is left on the Raspberry Pi 4 is mostly the source's: any law that is bilinear in expansion and kernel
size (4 numbers for the 6 ungrouped blocks of a stage) still misses by 12 % (one sigma; Pixel 3: 1.4 %).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.fitting.losses import Huber
from dtp_edge.fitting.rate_documents import kernel_documents
from dtp_edge.fitting.rates import (
    Board,
    HeldOut,
    KernelRates,
    Rate,
    RateSpec,
    fit_population,
    leave_family_out,
)
from dtp_edge.fitting.recipes.kind import Kind, Parts
from dtp_edge.fitting.recipes.tables import Found, read_samples
from dtp_edge.fitting.rows import KernelRow

_COLD = "weights beyond the cache"
BLOCK_SPEC = RateSpec(
    rates=(
        Rate("conv1x1", "compute", 1.0, 0.3),
        Rate("grouped", "compute", 2.0, 0.5),
        Rate("depthwise", "compute", 4.0, 0.5),
        Rate("io_conv", "memory", 0.7, 0.4),
        Rate("io_depthwise", "memory", 0.7, 0.4),
        Rate("io_other", "memory", 0.7, 0.4),
        Rate("io_layout", "memory", 1.0, 0.4),
        Rate("io_grouped", "memory", 1.0, 0.5),
        Rate("weights", "memory", 0.5, 0.4),
        Rate("cold_weights", "memory", 2.0, 0.6),
        Rate("launch", "overhead", 0.2, 0.7),
        Rate("launch_grouped", "overhead", 0.3, 0.7),
    ),
    kernels={
        "conv1x1": KernelRates("conv1x1", "io_conv", "weights", "launch"),
        "linear": KernelRates("conv1x1", "io_conv", "weights", "launch"),
        "grouped": KernelRates("grouped", "io_grouped", "weights", "launch_grouped"),
        "depthwise": KernelRates("depthwise", "io_depthwise", "weights", "launch"),
        **dict.fromkeys(("elementwise", "pool", "norm"), KernelRates("", "io_other", "", "launch")),
        **dict.fromkeys(("layout", "resize"), KernelRates("", "io_layout", "", "launch")),
        _COLD: KernelRates("", "io_other", "cold_weights", ""),
    },
)
_KEYS = {
    "conv1x1": "conv1x1",
    "gconv1x1": "grouped",
    "dwconv": "depthwise",
    "add": "elementwise",
    "shuffle": "layout",
}
_ROUNDS, _NOISE, _LOSS = 4, 0.1, Huber(0.12)


def block_fit(data: Path, device: str, cache_bytes: float) -> tuple[np.ndarray, HeldOut]:
    """Fit all 96 blocks of one device; whole stages (one input shape each) are held out."""

    def block(line: Mapping[str, str]) -> Found | None:
        if not line["device"].startswith(device):
            return None
        stage = "_".join(line["block"].split("_")[:2])
        return line["block"], stage, _rows(line, cache_bytes / 4), float(line["delta_vs_skip_ms"])

    samples = read_samples(data / "blocks" / "perblock_hwnasbench_pixel1.csv", block)
    boards = [Board(device, "blocks", samples)]
    full = fit_population(BLOCK_SPEC, boards, rounds=_ROUNDS, noise=_NOISE, loss=_LOSS)
    held = leave_family_out(BLOCK_SPEC, boards, rounds=_ROUNDS, noise=_NOISE, loss=_LOSS)
    return full.theta[0], held[0]


def block_documents(theta: np.ndarray, cache_bytes: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Return a profile's "kernels" and its "weight_cache" for fitted rates (fp32)."""
    kernels = kernel_documents(BLOCK_SPEC, theta, 4, {}, "fitted on blocks")
    rate: Any = kernels.pop(_COLD)["weight_bytes_per_second"]
    return kernels, {"bytes": cache_bytes, "bytes_per_second": rate}


def _rows(line: Mapping[str, str], cache: float) -> tuple[KernelRow, ...]:
    """Return a block's kernels less those of its stage's skip; `cache` holds so many weights."""
    rows = [
        KernelRow(_KEYS[op["op"]], op["macs"], op["in_elems"] + op["out_elems"], op["params"])
        for op in json.loads(line["layers_json"])
    ]
    weights = sum(row.weight_elements for row in rows)
    rows.append(KernelRow(_COLD, 0.0, 0.0, max(weights - cache, 0.0)))
    if line["identity_skip"] == "0":
        size, out = int(line["hin"]), int(line["hin"]) // int(line["stride"])
        cin, cout = int(line["cin"]), int(line["cout"])
        moved = cin * size**2 + cout * out**2
        rows.append(KernelRow("conv1x1", -cin * cout * out**2, -moved, -cin * cout, -1))
    return tuple(rows)


def _build(recipe: dict[str, Any], data: Path) -> Parts:
    theta, held = block_fit(data, recipe["board"], recipe["cache_bytes"])
    how = "additive rates fitted on 96 blocks (12 shapes x 8 operators), log error"
    kernels, cache = block_documents(theta, recipe["cache_bytes"])
    return Parts(kernels, held, how, {"weight_cache": cache})


KINDS = (Kind("blocks", _build, "leave one stage (one input shape, eight blocks) out"),)
