"""Microcontrollers of MLPerf Tiny 1.3 (closed division): four networks a board, int8.

As for the NUCLEO-L4R5ZI: two constants (MACs, activation bytes) start from the STM32H747's, with a prior that
ties their ratio, and each network is predicted from the other three.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtp_edge.fitting.recipes.kind import Kind, Parts, Recipe
from dtp_edge.fitting.recipes.microcontroller import CORTEX_M_SPEC, MLPERF, around_m7, kernels, reference_m7
from dtp_edge.fitting.recipes.tables import Found, read_samples
from dtp_edge.fitting.recipes.tflite_tables import rows_of
from dtp_edge.fitting.rows import read_layer_table

_KIB = 1024
_BOARDS: dict[str, dict[str, Any]] = {
    "stm32u575-cubeai-int8": {
        "system": "NUCLEO_U575ZI_Q",
        "device": ("NUCLEO-U575ZI-Q", "STM32U575", "1x Cortex-M33", 160),
        "limits": (786 * _KIB, 2048 * _KIB),
    },
    "stm32u385-cubeai-int8": {
        "system": "NUCLEO_U385RG_Q",
        "device": ("NUCLEO-U385RG-Q", "STM32U385", "1x Cortex-M33", 96),
        "limits": (256 * _KIB, 1024 * _KIB),
    },
}


def read_board(data: Path, system: str) -> tuple[Any, ...]:
    """Return the samples of one system. Raises `InputError`."""
    nets = read_layer_table(data / "mlperf_tiny" / "mlperf_tiny_layers.csv", "model")

    def network(line: Mapping[str, str]) -> Found | None:
        task = line["task"]
        wanted = line["system"] == system and line["mode"] == "performance" and task in MLPERF
        return (task, task, rows_of(nets[MLPERF[task]]), 1e3 / float(line["inf_per_s"])) if wanted else None

    return read_samples(data / "mlperf_tiny_1.3" / "results.csv", network)


def _build(recipe: Recipe, data: Path) -> Parts:
    theta, held = around_m7(read_board(data, recipe["system"]), reference_m7(data))
    how = "two constants scaled from the STM32H747 fit to four MLPerf Tiny networks"
    return Parts(kernels(CORTEX_M_SPEC, theta, "fitted, shape of the STM32H747"), held, how)


def _entries() -> dict[str, Recipe]:
    return {name: _entry(board) for name, board in _BOARDS.items()}


def _entry(board: Mapping[str, Any]) -> Recipe:
    name, chip, cores, clock = board["device"]
    facts = {"name": name, "chip": chip, "cores": cores, "clock_mhz": clock}
    ram, flash = board["limits"]
    return {
        "system": board["system"],
        "description": f"{name}, {cores} at {clock} MHz, MLPerf Tiny 1.3, int8",
        "device": {**facts, "kind": "cpu", "vendor": "STMicroelectronics"},
        "runtime": {
            "name": "X-CUBE-AI",
            "version": "as of MLPerf Tiny 1.3",
        },
        "precision": "int8",
        "threads": 1,
        "limits": {"ram_bytes": ram, "flash_bytes": flash},
        "memory_bytes_per_second": clock * 0.15e6,
        "power": {
            "file": "mlperf_tiny_1.3/results.csv",
            "division": "closed",
            "system": board["system"],
        },
        "provenance": {
            "source": "MLPerf Tiny v1.3, closed division, four networks; "
            "ratio of MACs to bytes from the STM32H747 fit",
            "url": "https://github.com/mlcommons/tiny_results_v1.3",
            "licence": "Apache-2.0",
            "facts": "sourced: latencies (MLPerf Tiny). recalled: core, clock, RAM, flash, bandwidth.",
        },
        "status": "indicative",
        "notes": "four networks only, each predicted from the other three",
    }


KINDS = (Kind("mlperf_tiny", _build, "leave one of four networks out", entries=_entries),)
