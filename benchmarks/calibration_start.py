"""Calibration as the start of a training: the same number of optimiser steps from three starts.

    python -m benchmarks.calibration_start --data cifar10:DIR --weights DIR/resnet20.safetensors \\
        --base-steps 1000 --macs 35% --steps 117 --seeds 0,1 --rates 0.03
    python -m benchmarks.calibration_start --table

    learned      masks for `--share` of the steps from Taylor scores, cut, least squares, the rest tunes (what
                 `--data` does; branches in the same decision)
    oneshot      Taylor scores alone decide (channels), plain least squares, all steps tune
    calibrated   `--calibrate`'s cut and repair on 512 training images without labels, all steps tune

Everything else is that of `benchmarks.accuracy.at_budget`. The test set is read once a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.accuracy.at_budget import Bench, parser_of_options
from benchmarks.accuracy.page import about_origin, mean_and_spread
from benchmarks.calibration import Calibration
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.training import evaluate

METHODS = "learned,oneshot,calibrated"
WAYS = {"learned": "ours-depth-macs", "calibrated": "calibrated-macs"}  # as `at_budget` calls them


def made(bench: Bench, method: str, seed: int, rate: float) -> tuple[nn.Module, dict[str, Any]]:
    """Cut and train with one method."""
    if method in WAYS:
        return bench.run(WAYS[method], seed, rate)
    given = Calibration(bench, f"macs={bench.options.macs}", 512, seed).make("start")
    return bench.run(method, seed, rate, given)


def whole_page() -> str:
    rows = EXPERIMENTS["calibration_start"].read()
    lines = ["# Calibration as the start of a training", "", (__doc__ or "").split("\n\n")[2], ""]
    lines += [
        "ResNet-20, CIFAR-10, hold-out and test %, mean over the seeds (their spread). The seconds are the"
    ]
    lines += ["training's: a calibration took 70 to 100 before it (`calibration.md`).", ""]
    lines += ["| MACs | steps | start | at the cut | hold-out | test | CPU seconds | seeds |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for key in dict.fromkeys((r["macs"], r["steps"], r["method"]) for r in rows):
        some = [r for r in rows if (r["macs"], r["steps"], r["method"]) == key]
        cells = [str(part) for part in key] + [
            mean_and_spread(some, k) for k in ("at_cut_holdout", "holdout", "test")
        ]
        cells += [f"{np.mean([r['cpu_seconds'] for r in some]):.0f}", str(len(some))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *about_origin(rows)]).rstrip() + "\n"


def main() -> None:
    parser = parser_of_options(__doc__)
    parser.set_defaults(methods=METHODS, seeds="0,1", steps=117, share=0.2, rates="0.03")
    options = parser.parse_args()
    options.distill = float(options.distill)
    torch.set_num_threads(options.threads)
    out = Path(options.out) if options.out else None
    if options.table:
        print(whole_page())
        return
    bench = Bench(options)
    for seed in map(int, options.seeds.split(",")):
        for method in options.methods.split(","):
            module, row = made(bench, method, seed, float(options.rates))
            row |= {"model": options.model, "method": method, "seed": seed, "macs": options.macs}
            row |= {"steps": options.steps, "test": evaluate(module, bench.data.test)}
            EXPERIMENTS["calibration_start"].append(row, out)
            print({k: v for k, v in row.items() if k != "widths"}, flush=True)


if __name__ == "__main__":
    main()
