"""Random networks, composed of every known structure, cut at random: how many are wrong? (None may be.)

    python -m benchmarks.random_networks                     # 10,000 networks
    python -m benchmarks.random_networks --count 500 --first 20000 --processes 2
    python -m benchmarks.random_networks --resume            # go on where the results file ends

Every weight and norm statistic is random. A network counts as *exact* if masked == compact to 1e-9 of the
output in float64 (by relative maximum error), *refused* if the product refused it with a reason, *wrong* if
it came out unequal, *failed* if anything else went wrong. Networks whose output pruning does not move prove
nothing and are counted apart. Every 10th is traced with a free batch, as a network of a user is (torch.export
takes three times as long then); every 50th is also cut in the user's own module, written as ONNX and compared
with ONNX Runtime to 1e-4 in float32.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import multiprocessing as mp
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.origin import commit
from benchmarks.experiments import EXPERIMENTS
from benchmarks.problems.keeps import random_keep
from benchmarks.problems.random_networks import RandomNetwork, random_plan, trace_quickly
from dtp_edge.errors import DtpEdgeError
from dtp_edge.graph import MaskedNetwork, PrunableNetwork
from dtp_edge.graph.leaves import leaves, random_like
from dtp_edge.onnx import check_onnx, export_onnx
from dtp_edge.proof import check_masked_equals_compact
from dtp_edge.proof.equality import copied_network, randomise_tensors
from dtp_edge.surgery.compaction import compact
from dtp_edge.surgery.difference import relative_error

RANDOM = EXPERIMENTS["random_networks"]
SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)  # seven, so that every 10th and every 50th have all of them


def examine(seed: int) -> tuple[int, str, str]:
    """Return (seed, outcome, detail) for the random network of this seed."""
    torch.set_num_threads(1)
    if seed % 25 == 0:
        gc.collect()
    gc.disable()  # symbolic tracing makes so many objects that collecting takes half of the time
    warnings.simplefilter("ignore")
    try:
        image, tokens = random_plan(seed)
        model = RandomNetwork(image, tokens, seed).eval()
        network = trace_quickly(model, dynamic_batch=seed % 10 == 0)
        randomise_tensors(network, seed)
        if seed % 50 == 0 and (fault := _in_product(network, seed)):
            return seed, "wrong", fault
        network = copied_network(network, dtype=torch.float64)
        keep = random_keep(network, SHARES[seed % len(SHARES)], seed)
        cut = compact(network, keep, in_place=False).graph_module
        x = random_like(network.example_inputs, seed, torch.float64)
        with torch.no_grad():
            masked, dense = leaves(MaskedNetwork(network, keep).eval()(*x)), leaves(network.graph_module(*x))
            error, moved = relative_error(masked, leaves(cut(*x))), relative_error(dense, masked)
    except DtpEdgeError as error:
        return seed, "wrong" if error.exit_code == 4 else "refused", error.message()[:200]
    except Exception as error:
        return seed, "failed", f"{type(error).__name__}: {str(error)[:200]}"
    if not error <= 1e-9:
        return seed, "wrong", f"error {error:.2e}"
    return seed, "exact" if moved > 1e-6 else "not moved", ""


def _in_product(network: PrunableNetwork, seed: int) -> str:
    """Do what the product does with a network; return what is wrong with the result, "" if nothing is."""
    keep = random_keep(network, SHARES[seed % len(SHARES)], seed)
    result = compact(network, keep)
    checks = [check_masked_equals_compact(network, keep, result, seeds=(seed,))]
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(result.module, network.example_inputs, Path(folder) / "model.onnx")
        checks.append(check_onnx(path, result.module, network.example_inputs, seeds=(seed,)))
    return "; ".join(f"{c.name}: {c.value:.1e} {c.detail}" for c in checks if not c.passed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--resume", action="store_true", help="go on where the results file ends")
    args = parser.parse_args()
    done: dict[str, Any] = json.loads(RANDOM.path.read_text()) if args.resume else {}
    if done and done.get("commit") != commit():
        raise SystemExit("--resume goes on with results of the same commit only")
    counts: collections.Counter[str] = collections.Counter(done.get("counts", {}))
    bad: list[list[object]] = done.get("not_exact", [])
    first, before = done.get("first_seed", args.first), done.get("seconds", 0)
    start = time.perf_counter()
    seeds = range(first + sum(counts.values()), first + args.count)
    with mp.get_context("fork").Pool(args.processes, maxtasksperchild=200) as pool:
        for seed, outcome, detail in pool.imap(examine, seeds, chunksize=1):
            counts[outcome] += 1
            if outcome not in ("exact", "not moved"):
                bad.append([seed, outcome, detail])
                print(seed, outcome, detail, random_plan(seed), flush=True)
            seconds = time.perf_counter() - start
            if sum(counts.values()) % 100 == 0 or seconds > args.seconds:
                print(dict(counts), f"{seconds:.0f} s", flush=True)
                write(first, counts, before + seconds, bad)
            if seconds > args.seconds:
                pool.terminate()
                break
    write(first, counts, before + time.perf_counter() - start, bad)
    print(RANDOM.path.read_text())


def write(first: int, counts: collections.Counter[str], seconds: float, bad: list[list[object]]) -> None:
    """Write what is known so far; a run that is stopped loses at most a hundred networks."""
    result = {
        "networks": sum(counts.values()),
        "first_seed": first,
        "counts": dict(counts),
        "seconds": round(seconds),
        "not_exact": bad,
    }
    RANDOM.document(result)


if __name__ == "__main__":
    main()
