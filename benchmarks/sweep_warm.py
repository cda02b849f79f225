"""Warm starts along a budget line against starting anew: is half of the masks' steps as good?

    python -m benchmarks.sweep_warm --data cifar10:DIR --seeds 0,1 --out runs/warm \\
        --weights benchmarks/results/accuracy_base.safetensors

ResNet-20, one device, three latencies, the data and the schedule of `benchmarks.sweep_cost`; only channels
go. Every cell is run anew, and those with a looser one on their line begin with its weights and half of its
masks' log-odds too, in half of the steps for masks (`--warm`). What is done in `--out` is not done again.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments import EXPERIMENTS
from benchmarks.sweep_cost import DEVICES, MASK_STEPS, TUNE_STEPS, found_in, problem
from dtp_edge import Budget
from dtp_edge.sweeps.driver import sweep
from dtp_edge.sweeps.sweep_result import SweepResult

WARM = EXPERIMENTS["sweep_warm"]
DEVICE, LATENCIES = DEVICES[0], ("70%", "50%", "35%")
WAYS = ("anew", "warm")


def swept(options: argparse.Namespace, seed: int, folder: Path, *, warm: bool) -> SweepResult:
    model, inputs, data, recipe = problem(options)
    return sweep(
        model, inputs, devices=[DEVICE], budgets=[Budget(latency=one) for one in LATENCIES], out=folder,
        data=data, recipe=recipe, seed=seed, depth=False, cores=1, warm=warm, resume=True,
    )  # fmt: skip


def run(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the row of one seed. The loosest cell has nothing to begin with: it is the same both ways."""
    folders, began, seconds = {way: options.out / f"{way}-{seed}" for way in WAYS}, time.process_time(), {}
    found = {"anew": swept(options, seed, folders["anew"], warm=False)}
    seconds["anew"] = time.process_time() - began
    if not folders["warm"].exists():
        for name in ("shared", f"cells/{found['anew'].rows[0]['id']}"):
            shutil.copytree(folders["anew"] / name, folders["warm"] / name)
    found["warm"] = swept(options, seed, folders["warm"], warm=True)
    seconds["warm"] = time.process_time() - began - seconds["anew"]
    cells = {
        way: [found_in(folders[way] / "cells" / row["id"]) for row in result.rows]
        for way, result in found.items()
    }
    return {
        "seed": seed,
        "device": DEVICE,
        "latencies": list(LATENCIES),
        "steps": [MASK_STEPS, TUNE_STEPS],
        "cpu_s": seconds,
        **{way: [cell["accuracy"] for cell in cells[way]] for way in WAYS},
        **{name: cells["anew"][0][name] for name in ("base", "control", "n_test")},
    }


def whole_page() -> str:
    """Return the page of the rows that are there, of several of one seed the last."""
    about = (__doc__ or "").split("\n\n", 2)
    rows = {row["seed"]: row for row in WARM.read()}
    lines = ["# Warm starts along a budget line", "", about[1].strip("\n"), "", about[2].strip("\n"), ""]
    if not rows:
        return "\n".join([*lines, "Not run yet.", ""])
    latencies, last = next(iter(rows.values()))["latencies"], list(rows.values())[-1]
    masks, tune = last["steps"]
    lines += [
        f"{masks} steps of masks ({masks // 2} warm), {tune} of fine-tune, {last['n_test']} test images; "
        f"top-1 in percent, anew and warm. {last['date']}, {last['machine']}, {last['commit']}.",
        "",
        "| seed | control | " + " | ".join(latencies) + " |",
        "|" + "---|" * (2 + len(latencies)),
    ]
    for row in rows.values():
        pairs = [f"{100 * a:.1f}, {100 * w:.1f}" for a, w in zip(row["anew"], row["warm"], strict=True)]
        lines.append(f"| {row['seed']} | {100 * row['control']:.1f} | {' | '.join(pairs)} |")
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
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--out", type=Path, default=Path("runs/warm"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in map(int, options.seeds.split(",")):
        row = run(options, seed)
        WARM.append(row)
        print(row, flush=True)


if __name__ == "__main__":
    main()
