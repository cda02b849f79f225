"""What a board draws while it runs a network, from MLPerf Tiny's energy runs: energy over time, one constant.

Energy an inference over its time differs by a few per cent between networks on one board (v1.2,
NUCLEO-L4R5ZI: 38.7, 42.0, 42.2 and 43.8 mW), so that their median stands for all;
the largest departure from it is stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dtp_edge.errors import InputError
from dtp_edge.fitting.rows import plain_number, read_csv


def power_of(data: Path, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Return the `power` of a profile: the median over the networks whose rows hold all `wanted` columns.

    `wanted` has `file` (within `data`) and values of its columns, such as `board` and `version`. The time is
    that of the energy run, or of the performance run where that states none (v1.3). Raises `InputError`
    where no network has both.
    """
    table = data / wanted["file"]
    columns = {name: value for name, value in wanted.items() if name != "file"}
    joules: dict[str, float] = {}
    rates: dict[tuple[str, str], float] = {}  # (task, mode) -> inferences a second
    for line in read_csv(table):
        if all(line.get(name) == value for name, value in columns.items()):
            energy = plain_number(line.get("energy_uJ") or line.get("uJ_per_inf") or "0")
            rate = plain_number(line.get("throughput_inf_s") or line.get("inf_per_s") or "0")
            if rate > 0:
                rates[line["task"], line["mode"]] = rate
            if line["mode"] == "energy" and energy > 0:
                joules[line["task"]] = 1e-6 * energy
    timed = {task: rates.get((task, "energy"), rates.get((task, "performance"))) for task in joules}
    watts = {task: joules[task] * rate for task, rate in timed.items() if rate is not None}
    if not watts:
        raise InputError("no network has both energy and time", where=str(table), hint=f"Columns: {columns}.")
    each = np.array(list(watts.values()))
    middle = float(np.median(each))
    told = ", ".join(f"{task} {1e3 * value:.1f} mW" for task, value in sorted(watts.items()))
    return {
        "watts": float(f"{middle:.4g}"),
        "relative_spread": round(float(np.abs(each / middle - 1.0).max()), 4),
        "source": f"MLPerf Tiny, energy over time: {told}",
    }
