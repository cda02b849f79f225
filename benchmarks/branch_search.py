"""Is the best of branches and widths found? Small cases against brute force over both: one line.

    python -m benchmarks.branch_search [--count 1000]
    python -m benchmarks.branch_search --count 500 --first 500       # in parts: one line of all

A case (benchmarks/problems/residual.py) has up to four branches, nested or in pairs, widths of up to five
channels, one to three limits and a staircase; brute force prices every combination of open gates and widths.
Good is a cut of at least 99 % of the best total worth that fits. Cuts above a limit, or that leave no
network, are counted: there may be none.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks.common.experiment import Row
from benchmarks.experiments import EXPERIMENTS
from benchmarks.problems.residual import best_worth, random_case
from dtp_edge.transport import harden

SEARCH = EXPERIMENTS["branch_search"]
COUNTS = ("cases", "good", "best", "broken")
GOOD = 0.99  # of the best worth


def examine(seed: int) -> tuple[float, bool]:
    """Return the worth of what is found as a share of the best, and whether it breaks a limit or a rule."""
    network, cost, limits, values = random_case(seed)
    keep = harden(values, network, cost, limits, values=values, min_keep=0)
    costs = cost.evaluate(network.layers.sizes(keep.astype(float)))
    broken = any(costs[metric] > limit for metric, limit in limits.items())
    broken |= network.depth.fault(keep) is not None
    best = best_worth(network, cost, limits, values)
    return float(values[keep].sum()) / best if best > 0 else 1.0, broken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    args = parser.parse_args()
    began = time.process_time()
    shares, broken = [], 0
    for seed in range(args.first, args.first + args.count):
        share, wrong = examine(seed)
        shares.append(share)
        broken += wrong
    found = np.array(shares)
    row: Row = {"first_seed": args.first, "cases": args.count, "good": int((found >= GOOD - 1e-12).sum())}
    row |= {"best": int((found >= 1 - 1e-9).sum()), "least": f"{found.min():.4f}", "broken": broken}
    row["cpu_seconds"] = round(time.process_time() - began)
    print(summary(SEARCH.merge([{name: str(value) for name, value in row.items()}])))


def summary(rows: list[Row]) -> str:
    """What all parts say together."""
    cases, good, best, broken = (sum(int(r[name]) for r in rows) for name in COUNTS)
    least = min(float(r["least"]) for r in rows)
    return (
        f"{good} of {cases} cases ({100 * good / cases:.1f} %) have at least {100 * GOOD:.0f} % of the best "
        f"worth, {best} the best itself; the least has {100 * least:.1f} %. "
        f"Above a limit or without a network: {broken}."
    )


if __name__ == "__main__":
    main()
