"""Hexagon NPU from Qualcomm AI Hub's published latencies of torchvision networks. Indicative only.

Whole-network totals (MACs by kind, activations, weights, layers) are all that is at hand, so activations,
weights and launches share one rate each. Additive models predict NPUs poorly (about 20 %).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dtp_edge.fitting.rates import (
    Board,
    HeldOut,
    KernelRates,
    Rate,
    RateSpec,
    fit_population,
    leave_family_out,
)
from dtp_edge.fitting.recipes.tables import Found, read_samples
from dtp_edge.fitting.rows import KernelRow, read_csv

_MOVERS = ("elementwise", "pool", "layout", "softmax", "resize", "norm", "embedding")
HEXAGON_SPEC = RateSpec(
    rates=(
        Rate("mac", "compute", 0.01, 0.3),
        Rate("grouped", "compute", 0.02, 0.5),
        Rate("depthwise", "compute", 0.05, 0.5),
        Rate("io", "memory", 0.02, 0.5),
        Rate("weights", "memory", 0.05, 0.5),
        Rate("launch", "overhead", 0.15, 0.5),
    ),
    kernels={
        **dict.fromkeys(
            ("conv1x1", "conv", "linear", "matmul", "conv_transpose"),
            KernelRates("mac", "io", "weights", "launch"),
        ),
        "grouped": KernelRates("grouped", "io", "weights", "launch"),
        "depthwise": KernelRates("depthwise", "io", "weights", "launch"),
        **dict.fromkeys(_MOVERS, KernelRates("", "io", "", "launch")),
        "total": KernelRates("", "io", "weights", "launch"),
    },
    level_sd=2.5,
)
_FAMILIES = ("resnext", "wideresnet", "resnet", "regnet", "mobilenet", "shufflenet", "squeezenet", "densenet")
_NOISE = 0.15


def hexagon_fit(data: Path, device: str, runtime: str, precision: str) -> tuple[np.ndarray, HeldOut]:
    """Fit one phone, runtime and precision; return theta and held-out predictions."""
    totals = {r["model"]: r for r in read_csv(data / "qai_hub" / "torchvision_features.csv")}

    def network(line: Mapping[str, str]) -> Found | None:
        wanted = (line["device"], line["runtime"], line["precision"], line["unit"])
        name = line["model"]
        if wanted != (device, runtime, precision, "NPU") or name not in totals or name == "vit":
            return None
        family = next((f for f in _FAMILIES if name.startswith(f)), name)
        rows = _rows({k: float(v) for k, v in totals[name].items() if k not in ("model", "tv")})
        return name, family, rows, float(line["latency_ms"])

    samples = read_samples(data / "qai_hub" / "qai_hub_perf.csv", network)
    # bounded by LPDDR5X (77 GB/s, one byte a weight) and the vendor's 45 TOPS
    boards = [Board(device, "npu", samples, {"weights": 77e9, "mac": 22.5e12, "grouped": 22.5e12})]
    full = fit_population(HEXAGON_SPEC, boards, noise=_NOISE)
    return full.theta[0], leave_family_out(HEXAGON_SPEC, boards, full=full, rounds=6, noise=_NOISE)[0]


def _rows(total: dict[str, float]) -> tuple[KernelRow, ...]:
    return (
        KernelRow("conv", total["conv1"] + total["convk"] + total["fc"], 0, 0, 1),
        KernelRow("grouped", total["grp"], 0, 0, 1),
        KernelRow("depthwise", total["dw"], 0, 0, 1),
        KernelRow("total", 0, 2 * total["act"], total["params"], int(total["n"]) - 3),
    )
