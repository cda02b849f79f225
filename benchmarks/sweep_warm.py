"""Warm starts along a budget line against starting anew: is half of the masks' steps as good?

    python -m benchmarks.sweep_cost ... --no-depth --out runs/cost     # the cells anew
    python -m benchmarks.sweep_warm --data cifar10:DIR --cost runs/cost \\
        --weights benchmarks/results/accuracy_base.safetensors

The cells of `benchmarks.sweep_cost` once more, device by device: those with a looser one on their line begin
with its weights and half of its masks' log-odds, and take half of the steps for masks (`--warm`). Base,
control and the loosest cell are those of the sweep in `--cost`.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments import EXPERIMENTS
from benchmarks.sweep_cost import DEVICES, LATENCIES, MASK_STEPS, SEED, TUNE_STEPS, found_in, problem
from dtp_edge import Budget
from dtp_edge.report import read_sweep
from dtp_edge.sweeps.driver import sweep

WARM = EXPERIMENTS["sweep_warm"]


def run(options: argparse.Namespace, device: str) -> dict[str, Any]:
    """Return the row of one device. The loosest cell has nothing to begin with: it is the same both ways."""
    cost, folder = options.cost, options.cost.with_name(f"{options.cost.name}-warm-{device}")
    anew = [row for row in read_sweep(cost)["cells"] if row["device"] == device]
    if not folder.exists():
        for name in ("shared", f"cells/{anew[0]['id']}"):
            shutil.copytree(cost / name, folder / name)
    model, inputs, data, recipe = problem(options)
    began = time.process_time()
    warm = sweep(
        model, inputs, devices=[device], budgets=[Budget(latency=one) for one in LATENCIES], out=folder,
        data=data, recipe=recipe, seed=SEED, depth=False, cores=1, warm=True, resume=True,
    )  # fmt: skip
    cells = {
        "anew": [found_in(cost / "cells" / row["id"]) for row in anew],
        "warm": [found_in(folder / "cells" / row["id"]) for row in warm.rows],
    }
    return {
        "device": device,
        "latencies": list(LATENCIES),
        "begins_with": [row.get("begins_with") for row in warm.rows],
        "steps": [MASK_STEPS, TUNE_STEPS],
        "cpu_s": time.process_time() - began,
        **{way: [cell["accuracy"] for cell in found] for way, found in cells.items()},
        **{name: cells["anew"][0][name] for name in ("base", "control", "n_test")},
    }


def whole_page() -> str:
    """Return the page of the rows that are there, of several of one device the last."""
    about = (__doc__ or "").split("\n\n", 2)
    rows = {row["device"]: row for row in WARM.read()}
    lines = ["# Warm starts along a budget line", "", about[1].strip("\n"), "", about[2].strip("\n"), ""]
    if not rows:
        return "\n".join([*lines, "Not run yet.", ""])
    latencies, last = next(iter(rows.values()))["latencies"], list(rows.values())[-1]
    masks, tune = last["steps"]
    lines += [
        f"{masks} steps of masks ({masks // 2} warm), {tune} of fine-tune, {last['n_test']} test images; "
        f"top-1 in percent, anew and warm. {last['date']}, {last['machine']}, {last['commit']}.",
        "",
        "| device | control | " + " | ".join(latencies) + " |",
        "|" + "---|" * (2 + len(latencies)),
    ]
    for row in rows.values():
        pairs = [f"{100 * a:.1f}, {100 * w:.1f}" for a, w in zip(row["anew"], row["warm"], strict=True)]
        lines.append(f"| {row['device']} | {100 * row['control']:.1f} | {' | '.join(pairs)} |")
    gains = [w - a for row in rows.values() for a, w in zip(row["anew"][1:], row["warm"][1:], strict=True)]
    better = sum(gain > 0 for gain in gains)
    lines += [
        "",
        f"Warm less anew, mean over the {len(gains)} cells that can begin warm: "
        f"**{100 * sum(gains) / len(gains):+.1f} points**, better in {better}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--cost", type=Path, required=True, help="the folder of the sweep anew")
    parser.add_argument("--devices", default=",".join(DEVICES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for device in options.devices.split(","):
        row = run(options, device)
        WARM.append(row)
        print(row, flush=True)


if __name__ == "__main__":
    main()
