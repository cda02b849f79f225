"""A profile for an Arm core that nobody has measured: MACs a cycle x clock x cores, and memory bandwidth.

MACs a cycle are Arm Compute Library's own constants of its GEMM kernels (a64_sgemm_8x12 and relatives,
MIT). Depthwise convolutions run at a third of that, and memory at twice the measured memcpy rate (a copy
reads and writes). The error is what these assumptions give on boards of ncnn's table that are *not*
used here for anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.errors import InputError, nearest
from dtp_edge.fitting.rates import HeldOut
from dtp_edge.fitting.recipes.kind import Kind, Parts
from dtp_edge.fitting.recipes.ncnn import FUSION, channel_steps, read_boards

MACS_PER_CYCLE = {
    ("a53", "fp32"): 2.78,
    ("a55", "fp32"): 3.95,
    ("a72", "fp32"): 2.89,
    ("a73", "fp32"): 2.89,
    ("a76", "fp32"): 7.23,
    ("a78", "fp32"): 7.23,
    ("a55", "fp16"): 7.16,
    ("a76", "fp16"): 12.67,
    ("a78", "fp16"): 12.67,
    ("a55", "int8"): 15.4,
    ("a76", "int8"): 29.1,
    ("a78", "int8"): 29.1,
}
_PRODUCTS = ("conv1x1", "conv3x3", "conv", "grouped", "conv_transpose", "linear", "matmul", "recurrent")
_MOVERS = ("elementwise", "norm", "pool", "layout", "resize", "softmax", "embedding")
_ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
_DEPTHWISE_SHARE = 1 / 3
_OVERHEAD_CYCLES = 20_000.0
# boards of ncnn's table, one thread: run, core, precision, MHz, memcpy MB/s of sbc-bench
_CHECKS = (
    (52, "a53", "fp32", 1000, 1300),
    (43, "a53", "fp32", 1400, 1110),
    (45, "a72", "fp32", 1800, 2395),
    (78, "a72", "fp32", 1800, 2395),
    (47, "a76", "fp16", 2400, 5585),
    (69, "a76", "fp16", 2400, 10830),
    (101, "a78", "fp16", 1500, 6730),
)


def arm_kernels(
    core: str, precision: str, clock_mhz: float, cores: int, memcpy_mb_s: float
) -> dict[str, Any]:
    """Return the "kernels" object for any listed core. Raises `InputError` for an unknown one."""
    rate = MACS_PER_CYCLE.get((core, precision))
    if rate is None:
        known = sorted({c for c, p in MACS_PER_CYCLE if p == precision})
        raise InputError(
            f"no MACs-per-cycle constant for core {core!r} at {precision}",
            hint=f"Nearest: {', '.join(nearest(core, known)) or 'none'}; known: {', '.join(known)}.",
        )
    macs = rate * clock_mhz * 1e6 * cores
    bytes_per_second = 2e6 * memcpy_mb_s
    overhead_ms = _OVERHEAD_CYCLES / (clock_mhz * 1e3)
    steps = channel_steps({4: 4, 2: 8, 1: 16}[_ELEMENT_BYTES[precision]])
    result: dict[str, Any] = {}
    for family in (*_PRODUCTS, "depthwise", *_MOVERS):
        document: dict[str, Any] = {"form": "additive"}
        if family not in _MOVERS:
            document["macs_per_second"] = macs * (_DEPTHWISE_SHARE if family == "depthwise" else 1.0)
        document |= {"bytes_per_second": bytes_per_second, "overhead_ms": overhead_ms}
        if family in steps:
            document["channel_step"] = steps[family]
        result[family] = {**document, "source": "analytical: MACs/cycle x clock x cores, memcpy bandwidth"}
    return result


def check_on_boards(data: Path) -> HeldOut:
    """Predict every network of seven measured boards from their datasheets alone."""
    boards = read_boards(data, {})
    names, predicted, measured = [], [], []
    for run, core, precision, clock_mhz, memcpy in _CHECKS:
        table = arm_kernels(core, precision, clock_mhz, 1, memcpy)
        for sample in boards[run].samples:
            total = 0.0
            for row in sample.rows:
                model = table[row.key.split(".")[0]]
                moved = _ELEMENT_BYTES[precision] * (row.activation_elements + row.weight_elements)
                total += row.macs / model.get("macs_per_second", np.inf) * 1e3
                total += moved / model["bytes_per_second"] * 1e3 + model["overhead_ms"]
            names.append(f"{boards[run].name}: {sample.name}")
            predicted.append(total)
            measured.append(sample.latency_ms)
    return HeldOut(tuple(names), np.array(predicted), np.array(measured))


def _build(recipe: dict[str, Any], data: Path) -> Parts:
    clock = recipe["device"]["clock_mhz"]
    kernels = arm_kernels(recipe["core"], recipe["precision"], clock, recipe["cores"], recipe["memcpy_mb_s"])
    how = "MACs/cycle x clock x cores and memcpy bandwidth; nothing fitted"
    return Parts(kernels, check_on_boards(data), how)


KINDS = (
    Kind(
        "arm",
        _build,
        "the same assumptions on seven measured Arm boards of ncnn's table, one thread, all networks",
        FUSION,
    ),
)
