"""TFLite profiles from measured FBNet blocks (HW-NAS-Bench, through HELP): Raspberry Pi 4 and Pixel 3.

Each latency is a block's minus that of the stage's skip. Where the stage changes shape, that skip is
itself a 1x1 convolution with the stage's stride, so its kernel is subtracted from the block's here;
without that the Pixel 3's held-out error is 8.7 % instead of 6.6 %.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dtp_edge.cost.fit import (
    Board,
    HeldOut,
    KernelRates,
    Rate,
    RateSpec,
    Sample,
    fit_population,
    leave_family_out,
)
from dtp_edge.cost.fit_rows import KernelRow, read_csv

BLOCK_SPEC = RateSpec(
    rates=(
        Rate("conv1x1", "compute", 1.0, 0.3),
        Rate("grouped", "compute", 2.0, 0.5),
        Rate("depthwise", "compute", 4.0, 0.5),
        Rate("io_conv", "memory", 0.7, 0.4),
        Rate("io_depthwise", "memory", 0.7, 0.4),
        Rate("io_other", "memory", 0.7, 0.4),
        Rate("io_layout", "memory", 1.0, 0.4),
        Rate("weights", "memory", 0.5, 0.4),
        Rate("launch", "overhead", 0.2, 0.7),
    ),
    kernels={
        "conv1x1": KernelRates("conv1x1", "io_conv", "weights", "launch"),
        "linear": KernelRates("conv1x1", "io_conv", "weights", "launch"),
        "grouped": KernelRates("grouped", "io_conv", "weights", "launch"),
        "depthwise": KernelRates("depthwise", "io_depthwise", "weights", "launch"),
        **dict.fromkeys(("elementwise", "pool", "norm"), KernelRates("", "io_other", "", "launch")),
        **dict.fromkeys(("layout", "resize"), KernelRates("", "io_layout", "", "launch")),
    },
)
_KEYS = {
    "conv1x1": "conv1x1",
    "gconv1x1": "grouped",
    "dwconv": "depthwise",
    "add": "elementwise",
    "shuffle": "layout",
}
_NOISE = 0.1


def block_fit(data: Path, device: str) -> tuple[np.ndarray, HeldOut]:
    """Fit all 96 blocks of one device; whole stages (one input shape each) are held out."""
    samples = []
    for line in read_csv(data / "blocks" / "perblock_hwnasbench_pixel1.csv"):
        if line["device"].startswith(device):
            stage = "_".join(line["block"].split("_")[:2])
            samples.append(Sample(line["block"], stage, _rows(line), float(line["delta_vs_skip_ms"])))
    boards = [Board(device, "blocks", tuple(samples))]
    full = fit_population(BLOCK_SPEC, boards, rounds=4, noise=_NOISE)
    held = leave_family_out(BLOCK_SPEC, boards, full=full, rounds=3, noise=_NOISE)
    return full.theta[0], held[0]


def _rows(line: dict[str, str]) -> tuple[KernelRow, ...]:
    rows = [
        KernelRow(_KEYS[op["op"]], op["macs"], op["in_elems"] + op["out_elems"], op["params"])
        for op in json.loads(line["layers_json"])
    ]
    if line["identity_skip"] == "0":
        size, out = int(line["hin"]), int(line["hin"]) // int(line["stride"])
        cin, cout = int(line["cin"]), int(line["cout"])
        moved = cin * size**2 + cout * out**2
        rows.append(KernelRow("conv1x1", -cin * cout * out**2, -moved, -cin * cout, -1))
    return tuple(rows)
