"""Fitted rates as a profile writes them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dtp_edge.fitting.rates import RateSpec


def kernel_documents(
    spec: RateSpec,
    theta: np.ndarray,
    element_bytes: float,
    steps: Mapping[str, Mapping[str, int]],
    source: str,
) -> dict[str, dict[str, object]]:
    """Return the "kernels" object of a profile for fitted rates."""
    index = spec.index()
    beta = np.exp(theta)

    def per_second(name: str, unit: float = 1.0) -> float:
        return float(f"{unit * 1e3 / beta[index[name]]:.4g}")

    result: dict[str, dict[str, object]] = {}
    for key, rates in spec.kernels.items():
        document: dict[str, object] = {"form": "additive"}
        if rates.macs:
            document["macs_per_second"] = per_second(rates.macs)
        document["bytes_per_second"] = per_second(rates.activations, element_bytes)
        if rates.weights:
            document["weight_bytes_per_second"] = per_second(rates.weights, element_bytes)
        if rates.spill:
            document["spill_bytes"] = spec.spill_elements * element_bytes
            document["spill_bytes_per_second"] = per_second(rates.spill, element_bytes)
        overhead = float(f"{beta[index[rates.overhead]]:.4g}") if rates.overhead else 0.0
        document["overhead_ms"] = overhead
        if key in steps:
            document["channel_step"] = dict(steps[key])
        document["source"] = source
        result[key] = document
    return result
