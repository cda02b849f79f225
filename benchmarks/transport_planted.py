"""Is the known best subset found? 100 seeds for every kind of budget: one table, one command.

    python -m benchmarks.transport_planted [--seeds 100] [--budgets macs latency_ms ...]

The problem (benchmarks/problems/planted.py): three layers with planted channels in different numbers, decoys
that look larger, and a budget that is exactly what the planted channels cost but lets in other splits too.
For the first seeds brute force over all 2^30 subsets confirms that the planted channels are the best.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.experiments import EXPERIMENTS
from benchmarks.problems.planted import BUDGETS, STEPS, brute_force, find, plant

COLUMNS: list[str] = [
    "budget",
    "seeds",
    "steps",
    "learned",
    "from_start",
    "optimum_checked",
    "seconds",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--checked", type=int, default=10, help="seeds for which brute force runs")
    parser.add_argument("--budgets", nargs="*", choices=BUDGETS, default=BUDGETS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for budget in options.budgets:
        began = time.perf_counter()
        checked = 0
        for seed in range(min(options.checked, options.seeds)):
            problem = plant(seed, budget)
            checked += bool((brute_force(problem)[0] == problem.truth).all())
        found = [find(seed, budget) for seed in range(options.seeds)]
        learned, start = (sum(pair[i] for pair in found) for i in range(2))
        seconds = f"{time.perf_counter() - began:.0f}"
        values = (budget, options.seeds, STEPS, learned, start, checked, seconds)
        EXPERIMENTS["transport_planted"].merge([dict(zip(COLUMNS, map(str, values), strict=True))])
        print(
            f"{budget:15} {learned:3} of {options.seeds} found, {start:3} by the starting scores alone; "
            f"brute force agrees in {checked} of {min(options.checked, options.seeds)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
