"""Shipped profiles as recipes: which data, which form, which settings. One command regenerates one profile.

`recipes.json` names every profile's source and device facts; `build` fits it from a data folder and
returns the finished document. `python tools/fit_profiles.py DATA` writes all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from dtp_edge.errors import InputError, nearest
from dtp_edge.fitting.rates import HeldOut
from dtp_edge.fitting.recipes.board_power import power_of

_TFLITE_FUSION = {
    "norm": True,
    "activations": ["relu", "relu6", "hardtanh", "clamp"],
    "add": False,
    "elementwise_activations": True,
}
_NCNN_ACTIVATIONS = ["relu", "relu6", "hardtanh", "clamp", "leaky_relu", "sigmoid", "hardswish", "mish"]
_NCNN_FUSION = {"norm": True, "activations": _NCNN_ACTIVATIONS, "add": False}
_NCNN_HOW = (
    "leave one network family out on all 186 CPU runs of the table at once, so that the prior learned "
    "from the other boards has not seen the family either; float networks"
)
_NCNN_MEMORY = (
    "channels off the packing (4 in fp32, 8 in fp16) are costed as the next multiple; ncnn may be slower"
)


class Parts(NamedTuple):
    """What a recipe makes: kernels, held-out predictions, how in words, and other fields of the profile."""

    kernels: dict[str, Any]
    held: HeldOut
    how: str
    more: Mapping[str, Any] = MappingProxyType({})


def recipes() -> dict[str, dict[str, Any]]:
    """Return all recipes by profile name."""
    return json.loads((Path(__file__).parent / "recipes.json").read_text(encoding="utf-8"))


def build(name: str, data: Path, date: str) -> dict[str, Any]:
    """Fit one shipped profile from the data folder; return its document (schema-valid).

    Raises `InputError` for an unknown recipe or missing data.
    """
    known = recipes()
    if name not in known:
        close = ", ".join(nearest(name, known)) or ", ".join(sorted(known))
        raise InputError(f"no recipe is called {name!r}", hint=f"Nearest: {close}.")
    recipe = known[name]
    kernels, held, how, more = _BUILDERS[recipe["kind"]](recipe, data)
    provenance = {**recipe["provenance"], "date": date, "how": how}
    provenance["recipe"] = f"dtp-edge profile fit --recipe {name} --data DATA --date {date} --out FILE"
    error: dict[str, Any] = {
        "status": recipe.get("status", "fitted"),
        "median_relative": round(held.median(), 4),
        "p90_relative": round(held.p90(), 4),
        "n": len(held.names),
        "how": _HOW[recipe["kind"]],
    }
    notes = [recipe["notes"]] if "notes" in recipe else []
    asked = recipe.get("asked_relative")
    if asked is not None and held.median() > asked:
        notes.insert(0, f"missed: asked <= {100 * asked:.0f} %, {recipe['missed_why']}")
    if notes:
        error["notes"] = "; ".join(notes)
    power = {"power": power_of(data, recipe["power"])} if "power" in recipe else {}
    is_ncnn = recipe["kind"] == "ncnn"
    keys = ("description", "device", "runtime", "precision", "threads", "limits", "memory_bytes_per_second")
    return {
        "schema_version": 1,
        "name": name,
        **{key: recipe[key] for key in keys},
        "kernels": kernels,
        **more,
        "fusion": _NCNN_FUSION if is_ncnn or recipe["kind"] == "arm" else _TFLITE_FUSION,
        "memory": {"in_place": True, **({"notes": _NCNN_MEMORY} if is_ncnn else {})},
        **power,
        "graph_overhead_ms": 0.0,
        "provenance": provenance,
        "error": error,
    }


def held_out(name: str, data: Path) -> HeldOut:
    """Return the held-out predictions behind a profile's error, network by network."""
    recipe = recipes()[name]
    return _BUILDERS[recipe["kind"]](recipe, data).held


def _ncnn(recipe: dict[str, Any], data: Path) -> Parts:
    from dtp_edge.fitting.recipes import ncnn

    targets = {n: r for n, r in recipes().items() if r["kind"] == "ncnn"}
    fit = ncnn.fit_all(data, targets)
    how = "additive rates, log error, prior from all CPU runs of the table, bounded by the cores' peak"
    return Parts(fit.kernels(recipe["run"], recipe["precision"]), fit.held_out(recipe["run"]), how)


def _blocks(recipe: dict[str, Any], data: Path) -> Parts:
    from dtp_edge.fitting.recipes.blocks import block_documents, block_fit

    theta, held = block_fit(data, recipe["board"], recipe["cache_bytes"])
    how = "additive rates fitted on 96 blocks (12 shapes x 8 operators), log error"
    kernels, cache = block_documents(theta, recipe["cache_bytes"])
    return Parts(kernels, held, how, {"weight_cache": cache})


@lru_cache(maxsize=4)
def _m7(data: Path, board: str, peak: float) -> tuple[np.ndarray, HeldOut]:
    from dtp_edge.fitting.recipes.microcontroller import cortex_m7

    return cortex_m7(data, board, peak)


def _cortex_m7(recipe: dict[str, Any], data: Path) -> Parts:
    from dtp_edge.fitting.recipes.microcontroller import CORTEX_M_SPEC, kernels

    theta, held = _m7(data, recipe["board"], recipe["peak_macs_per_second"])
    how = "MACs and activation bytes, two constants, log error, whole networks"
    return Parts(kernels(CORTEX_M_SPEC, theta, "fitted"), held, how)


def _cortex_m4(recipe: dict[str, Any], data: Path) -> Parts:
    from dtp_edge.fitting.recipes.microcontroller import CORTEX_M_SPEC, cortex_m4, kernels

    theta, held = cortex_m4(
        data,
        _m7(data, "STM32H747", recipes()["stm32h747-cubeai-int8"]["peak_macs_per_second"])[0],
        "v1.2",
        "X-CUBE-AI v9.0",
    )
    how = "two constants scaled from the STM32H747 fit to four MLPerf Tiny networks"
    return Parts(kernels(CORTEX_M_SPEC, theta, "fitted, shape of the STM32H747"), held, how)


def _neural_art(recipe: dict[str, Any], data: Path) -> Parts:
    from dtp_edge.fitting.recipes.microcontroller import NPU_SPEC, kernels, neural_art

    theta, held = neural_art(data)
    how = "MACs, activation bytes, weight bytes and launches, log error, bounded by 600 GOPS"
    return Parts(kernels(NPU_SPEC, theta, "fitted on MobileNets"), held, how)


def _hexagon(recipe: dict[str, Any], data: Path) -> Parts:
    from dtp_edge.fitting.rates import kernel_documents
    from dtp_edge.fitting.recipes.hexagon import HEXAGON_SPEC, hexagon_fit

    theta, held = hexagon_fit(data, recipe["board"], recipe["board_runtime"], recipe["precision"])
    kernels = kernel_documents(HEXAGON_SPEC, theta, 1, {}, "fitted on whole networks, indicative")
    kernels.pop("total")
    return Parts(kernels, held, "MACs, activations, weights and launches of torchvision networks, log error")


def _ethos(recipe: dict[str, Any], data: Path) -> Parts:
    from dtp_edge.fitting.recipes.ethos import ethos_fit, kernels

    rates, held = ethos_fit(data, recipe["accelerator"], recipe["macs_per_cycle"])
    how = "the longest of three streams a layer, fitted on Vela's per-layer cycles; blocks of 16 channels"
    return Parts(kernels(rates, recipe["clock_hz"]), held, how)


def _arm(recipe: dict[str, Any], data: Path) -> Parts:
    from dtp_edge.fitting.recipes.arm import arm_kernels, check_on_boards

    clock = recipe["device"]["clock_mhz"]
    kernels = arm_kernels(recipe["core"], recipe["precision"], clock, recipe["cores"], recipe["memcpy_mb_s"])
    how = "MACs/cycle x clock x cores and memcpy bandwidth; nothing fitted"
    return Parts(kernels, check_on_boards(data), how)


_BUILDERS = {
    "ncnn": _ncnn,
    "blocks": _blocks,
    "cortex_m7": _cortex_m7,
    "cortex_m4": _cortex_m4,
    "neural_art": _neural_art,
    "hexagon": _hexagon,
    "ethos": _ethos,
    "arm": _arm,
}
_HOW = {
    "ncnn": _NCNN_HOW,
    "blocks": "leave one stage (one input shape, eight blocks) out",
    "cortex_m7": "leave one network family out",
    "cortex_m4": "leave one of four networks out",
    "neural_art": "leave one family (MobileNet version and toolchain) out",
    "hexagon": "leave one network family out",
    "ethos": "leave one network out, sum of layers against Vela's sum of the same layers",
    "arm": "the same assumptions on seven measured Arm boards of ncnn's table, one thread, all networks",
}
