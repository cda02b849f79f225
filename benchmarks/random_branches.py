"""Random networks with branches within branches, half of them taken away: how many are wrong? (None may be.)

    python -m benchmarks.random_branches                     # 10,000 networks
    python -m benchmarks.random_branches --count 500 --cuts 10 --first 20000 --seconds 600

As `benchmarks.random_networks`, with gates closed at random besides the widths. Tracing takes most of the
time, so a traced network may be cut several times, other gates and widths each time (`--cuts`); networks
and cuts are counted apart. Every 50th is also cut in the user's own module, written as ONNX and compared
with ONNX Runtime. Networks without a branch are counted apart.
"""

from __future__ import annotations

import argparse
import collections
import gc
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.experiments import EXPERIMENTS
from benchmarks.problems.keeps import random_depth
from benchmarks.problems.random_branches import BranchedNetwork
from benchmarks.problems.random_networks import trace_quickly
from dtp_edge.errors import DtpEdgeError
from dtp_edge.graph import MaskedNetwork, PrunableNetwork
from dtp_edge.graph.leaves import leaves, random_like
from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.proof import check_masked_equals_compact
from dtp_edge.proof.equality import copied_network, randomise_tensors
from dtp_edge.surgery.compaction import compact
from dtp_edge.surgery.difference import relative_error

BRANCHES = EXPERIMENTS["random_branches"]
SHARES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.0)
OTHER = 10_000_019  # from the seed of one cut to that of the next


def examine(seed: int, cuts: int = 1) -> list[tuple[str, str]]:
    """Return (outcome, detail) for every cut of the random network of this seed."""
    found: list[tuple[str, str]] = []
    try:
        network = trace_quickly(BranchedNetwork(seed).eval(), dynamic_batch=seed % 10 == 0, depth=True)
        if not network.branches:
            return [("no branch", "")]
        randomise_tensors(network, seed)
        keeps = [
            random_depth(network, SHARES[(seed + i) % len(SHARES)], seed + i * OTHER) for i in range(cuts)
        ]
        if seed % 50 == 0 and (fault := in_product(network, keeps[0], seed)):
            return [("wrong", fault)]
        twin = copied_network(network, dtype=torch.float64)
        found.extend(exact(twin, keep, seed) for keep in keeps)
    except DtpEdgeError as error:
        found.append(("wrong" if error.exit_code == 4 else "refused", error.message()[:200]))
    except Exception as error:
        found.append(("failed", f"{type(error).__name__}: {str(error)[:200]}"))
    return found


def exact(network: PrunableNetwork, keep: np.ndarray, seed: int) -> tuple[str, str]:
    """Compare masked, compact and dense in float64."""
    cut = compact(network, keep, in_place=False)
    x = random_like(network.example_inputs, seed, torch.float64)
    with torch.no_grad():
        masked = leaves(MaskedNetwork(network, keep).eval()(*x))
        error = relative_error(masked, leaves(cut.graph_module(*x)))
        moved = relative_error(leaves(network.graph_module(*x)), masked)
    if not error <= 1e-9:
        return "wrong", f"error {error:.2e}"
    return ("exact" if moved > 1e-6 else "not moved"), ""


def in_product(network: PrunableNetwork, keep: np.ndarray, seed: int) -> str:
    """Do what the product does with a network; return what is wrong with the result, "" if nothing is."""
    result = compact(network, keep)
    checks = [check_masked_equals_compact(network, keep, result, seeds=(seed,))]
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(result.module, network.example_inputs, Path(folder) / "model.onnx")
        checks.append(check_onnx(path, result.graph_module, network.example_inputs, seeds=(seed,)))
    return "; ".join(f"{c.name}: {c.value:.1e} {c.detail}" for c in checks if not c.passed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--cuts", type=int, default=1, help="of every network")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    counts: collections.Counter[str] = collections.Counter()
    bad: list[list[Any]] = []
    networks = 0
    start = time.perf_counter()
    for seed in range(args.first, args.first + args.count):
        if seed % 25 == 0:
            gc.collect()
        gc.disable()  # symbolic tracing makes so many objects that collecting takes half of the time
        networks += 1
        for outcome, detail in examine(seed, args.cuts):
            counts[outcome] += 1
            if outcome in ("wrong", "failed", "refused"):
                bad.append([seed, outcome, detail])
                print(seed, outcome, detail, flush=True)
        if time.perf_counter() - start > args.seconds:
            break
        if (seed - args.first + 1) % 100 == 0:
            seconds = time.perf_counter() - start
            print(f"{networks} networks, cuts {dict(counts)}, {seconds:.0f} s", flush=True)
    BRANCHES.document(
        {
            "networks": networks,
            "first_seed": args.first,
            "counts": dict(counts),
            "seconds": round(time.perf_counter() - start),
            "not_exact": bad,
        }
    )
    print(f"{networks} networks, cuts {dict(counts)}")


if __name__ == "__main__":
    main()
