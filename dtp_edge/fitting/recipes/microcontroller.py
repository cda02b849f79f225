"""STM32 profiles: Cube.AI on Cortex-M7 and M4 (int8), and the Neural-ART NPU of the STM32N6.

Cortex-M: MACs + activation bytes, two constants. Separate rates for depthwise or kxk layers were tried
and predict unseen network families worse (too few networks). The L4R5 has four networks, so its
two constants start from the M7's with a prior that ties their ratio.
STM32N6: the weights stream from external flash; its networks are MobileNets only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.fitting.rate_documents import kernel_documents
from dtp_edge.fitting.rates import (
    Board,
    HeldOut,
    KernelRates,
    Rate,
    RateSpec,
    Sample,
    design,
    fit_population,
    leave_family_out,
    prior,
    solve,
)
from dtp_edge.fitting.recipes.kind import Kind, Parts, all_recipes
from dtp_edge.fitting.recipes.mobilenets import mobilenet_rows
from dtp_edge.fitting.recipes.tables import Found, read_samples
from dtp_edge.fitting.recipes.tflite_tables import rows_of
from dtp_edge.fitting.rows import KernelRow, read_layer_table

_MOVERS = ("elementwise", "pool", "layout", "softmax", "resize", "norm", "embedding")
CORTEX_M_SPEC = RateSpec(
    rates=(Rate("mac", "compute", 1.0, 0.3), Rate("io", "memory", 1.0, 0.5)),
    kernels={
        **dict.fromkeys(
            ("conv1x1", "conv", "depthwise", "grouped", "conv_transpose", "linear", "matmul", "recurrent"),
            KernelRates("mac", "io", "", ""),
        ),
        **dict.fromkeys(_MOVERS, KernelRates("", "io", "", "")),
    },
    level_sd=4.0,
)
NPU_SPEC = RateSpec(
    rates=(
        Rate("mac", "compute", 0.05, 0.1),
        Rate("io", "memory", 1.0, 0.5),
        Rate("weights", "memory", 20.0, 0.5),
        Rate("launch", "overhead", 1.0, 0.7),
    ),
    kernels={
        **dict.fromkeys(
            ("conv1x1", "conv", "depthwise", "grouped", "linear"),
            KernelRates("mac", "io", "weights", "launch"),
        ),
        **dict.fromkeys(_MOVERS, KernelRates("", "io", "", "launch")),
    },
    level_sd=2.0,
)
_ZOO_FAMILIES = ("ssd", "mobilenet v1", "mobilenet v2", "resnet", "squeezenet", "st mnist")
MLPERF = {
    "ad": "ad01_int8.tflite",
    "ic": "pretrainedResnet_quant.tflite",
    "kws": "kws_ref_model.tflite",
    "vww": "vww_96_int8.tflite",
}


def cortex_m7(data: Path, board: str, peak: float = 1e15) -> tuple[np.ndarray, HeldOut]:
    """Fit one board of the STM32 model zoo of 2023; return theta and held-out predictions."""
    nets = read_layer_table(data / "stm32" / "stm32_2023_layers.csv", "row")

    def network(line: Mapping[str, str]) -> Found | None:
        if not line["board"].startswith(board):
            return None
        name = line["model"].strip()
        family = next((f for f in _ZOO_FAMILIES if f in name.lower()), name)
        return f"{name} {line['res']}", family, rows_of(nets[line["row"]]), float(line["latency_ms"])

    samples = read_samples(data / "stm32" / "stm32_2023_latency_macs.csv", network)
    boards = [Board(board, "m7", samples, {"mac": peak})]
    full = fit_population(CORTEX_M_SPEC, boards)
    return full.theta[0], leave_family_out(CORTEX_M_SPEC, boards)[0]


def cortex_m4(data: Path, m7: np.ndarray, version: str, framework: str) -> tuple[np.ndarray, HeldOut]:
    """Fit the NUCLEO-L4R5ZI's four MLPerf Tiny networks around the M7's ratio of MACs to bytes."""
    nets = read_layer_table(data / "mlperf_tiny" / "mlperf_tiny_layers.csv", "model")

    def network(line: Mapping[str, str]) -> Found | None:
        same = line["version"] == version and line["framework"] == framework
        if not same or "L4R5" not in line["board"] or line["mode"] != "performance":
            return None
        task = line["task"]
        return task, task, rows_of(nets[MLPERF[task]]), float(line["latency_ms"])

    return around_m7(read_samples(data / "mlperf_tiny" / "mlperf_tiny_results.csv", network), m7)


def around_m7(samples: Sequence[Sample], m7: np.ndarray) -> tuple[np.ndarray, HeldOut]:
    """Fit two constants whose ratio is nearly the M7's; return theta and predictions of each from the
    others.
    """
    _, covariance = prior(CORTEX_M_SPEC)
    covariance = covariance - np.diag(np.diag(covariance) - 16.0 - 0.2**2)
    precision = np.linalg.inv(covariance)
    matrix, measured = design(CORTEX_M_SPEC, samples), np.array([s.latency_ms for s in samples])
    predicted = np.zeros(len(samples))
    for out in range(len(samples)):
        rest = np.arange(len(samples)) != out
        predicted[out] = matrix[out] @ np.exp(solve(matrix[rest], measured[rest], m7, precision))
    theta = solve(matrix, measured, m7, precision)
    return theta, HeldOut(tuple(s.name for s in samples), predicted, measured)


def neural_art(data: Path) -> tuple[np.ndarray, HeldOut]:
    """Fit the STM32N6 on MobileNet V1 and V2 of several widths; families are (version, source)."""

    def network(line: Mapping[str, str]) -> Found | None:
        found = mobilenet_rows(line["model"], int(line["res"]))
        return found and (f"{line['model']} {line['res']}", *found, float(line["latency_ms"]))

    samples = read_samples(data / "stm32" / "stm32n6_2025.csv", network)
    # bounded by the vendor's 600 GOPS (300 GMAC/s)
    boards = [Board("STM32N6", "npu", samples, {"mac": 300e9})]
    full = fit_population(NPU_SPEC, boards)
    return full.theta[0], leave_family_out(NPU_SPEC, boards)[0]


def kernels(spec: RateSpec, theta: np.ndarray, source: str) -> dict[str, Any]:
    return kernel_documents(spec, theta, 1, {}, source)


def total(rows: tuple[KernelRow, ...]) -> tuple[float, float]:
    """Return (MACs, weights) of a network's kernels."""
    return sum(r.macs for r in rows), sum(r.weight_elements for r in rows)


@lru_cache(maxsize=4)
def _m7(data: Path, board: str, peak: float) -> tuple[np.ndarray, HeldOut]:
    return cortex_m7(data, board, peak)


def _build_m7(recipe: dict[str, Any], data: Path) -> Parts:
    theta, held = _m7(data, recipe["board"], recipe["peak_macs_per_second"])
    how = "MACs and activation bytes, two constants, log error, whole networks"
    return Parts(kernels(CORTEX_M_SPEC, theta, "fitted"), held, how)


def reference_m7(data: Path) -> np.ndarray:
    """Return theta of the STM32H747, whose ratio of MACs to bytes stands for other Cortex-M."""
    return _m7(data, "STM32H747", all_recipes()["stm32h747-cubeai-int8"]["peak_macs_per_second"])[0]


def _build_m4(recipe: dict[str, Any], data: Path) -> Parts:
    theta, held = cortex_m4(data, reference_m7(data), "v1.2", "X-CUBE-AI v9.0")
    how = "two constants scaled from the STM32H747 fit to four MLPerf Tiny networks"
    return Parts(kernels(CORTEX_M_SPEC, theta, "fitted, shape of the STM32H747"), held, how)


def _build_neural_art(recipe: dict[str, Any], data: Path) -> Parts:
    theta, held = neural_art(data)
    how = "MACs, activation bytes, weight bytes and launches, log error, bounded by 600 GOPS"
    return Parts(kernels(NPU_SPEC, theta, "fitted on MobileNets"), held, how)


KINDS = (
    Kind("cortex_m7", _build_m7, "leave one network family out"),
    Kind("cortex_m4", _build_m4, "leave one of four networks out"),
    Kind("neural_art", _build_neural_art, "leave one family (MobileNet version and toolchain) out"),
)
