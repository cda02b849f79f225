"""How long does pruning itself take, beside Torch-Pruning? Same networks, same machine, one run.

    python benchmarks/peer_speed.py                          # all of torchvision's classifiers
    python benchmarks/peer_speed.py --only resnet50,densenet121 --limit-s 60

Ours: labels, groups and surgery on the exported graph (torch.export itself is listed beside it). Theirs: the
`BasePruner` (dependency graph, groups, L2 importance, output layer ignored) and one `step()` at the ratio
that halves the channels. Each runs in a child process with the same limits, one thread; a peer that runs out
of time or memory, or raises, is listed so and, where it ran out, counted with the time it had. Times are CPU
seconds of the child, which other work on the machine does not change.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing as mp
import platform
import resource
import time
import warnings
from datetime import date
from typing import Any

import numpy as np
import torch
from subjects import RESULTS, build, names
from torch import nn

RESULT = RESULTS / "peer_speed.json"


@dataclasses.dataclass
class Timing:
    """CPU seconds of one tool on one network; `outcome` is "ok", "timeout", "memory" or the error."""

    seconds: float
    outcome: str
    peak_mb: float = 0.0
    export_s: float = 0.0


def ours(name: str, queue: Any) -> None:
    from dtp_edge.export.surgery import compact
    from dtp_edge.graph.build import label_network
    from dtp_edge.graph.trace import trace

    model, inputs = build("torchvision", name)
    start = time.process_time()
    graph_module, dynamic = trace(model.eval(), inputs)
    export_s = time.process_time() - start
    start = time.process_time()
    network = label_network(model, graph_module, inputs, dynamic_batch=dynamic)
    keep = np.zeros(network.n_atoms, dtype=bool)
    for g in network.groups:
        keep[g.start : g.start + max(1, (g.stop - g.start) // 2)] = True
    compact(network, keep, in_place=False)
    seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put(Timing(seconds, "ok", after / 1024, export_s))


def theirs(name: str, queue: Any) -> None:
    import torch_pruning as tp

    model, inputs = build("torchvision", name)
    model.eval()
    last = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    start = time.process_time()
    try:
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        pruner = tp.pruner.BasePruner(
            model, inputs[0][:1], importance=importance, pruning_ratio=0.5, ignored_layers=[last]
        )
        pruner.step()
        outcome = "ok"
    except MemoryError:
        outcome = "memory"
    except Exception as error:
        outcome = f"{type(error).__name__}: {str(error)[:80]}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.put(Timing(time.process_time() - start, outcome, peak))


def limited(task: Any, name: str, queue: Any, limit_gb: float) -> None:
    warnings.simplefilter("ignore")
    size = int(limit_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    task(name, queue)


def timed(task: Any, name: str, limit_s: float, limit_gb: float) -> Timing:
    """Run one tool on one network in a child; the time that it had is its time if it was stopped."""
    context = mp.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=limited, args=(task, name, queue, limit_gb))
    start = time.perf_counter()
    child.start()
    result = None
    while result is None and time.perf_counter() - start < limit_s:
        try:
            result = queue.get(timeout=0.2)
        except Exception:
            if not child.is_alive():
                break
    if result is None:
        alive = child.is_alive()
        result = Timing(time.perf_counter() - start, "timeout" if alive else f"died ({child.exitcode})")
    child.kill()
    child.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--limit-s", type=float, default=180)
    parser.add_argument("--limit-gb", type=float, default=12)
    args = parser.parse_args()
    import torch_pruning
    import torchvision

    torch.set_num_threads(1)
    rows = []
    for name in args.only.split(",") if args.only else names("torchvision"):
        a = timed(ours, name, args.limit_s, args.limit_gb)
        b = timed(theirs, name, args.limit_s, args.limit_gb)
        rows.append({"network": name, "ours": dataclasses.asdict(a), "theirs": dataclasses.asdict(b)})
        print(
            f"{name:24s} ours {a.seconds:7.2f} s {a.outcome} {a.peak_mb:.0f} MB "
            f"(export {a.export_s:.1f} s)   theirs {b.seconds:7.2f} s {b.outcome} {b.peak_mb:.0f} MB   "
            f"{b.seconds / a.seconds:6.1f}x",
            flush=True,
        )
        comparable = [
            r for r in rows if r["theirs"]["outcome"] in ("ok", "timeout") and r["ours"]["outcome"] == "ok"
        ]
        ratios = [r["theirs"]["seconds"] / r["ours"]["seconds"] for r in comparable]
        summary = {
            "date": date.today().isoformat(),
            "machine": f"{platform.machine()}, torch {torch.__version__}, one thread",
            "torch_pruning": torch_pruning.__version__,
            "torchvision": torchvision.__version__,
            "median_ratio": float(np.median(ratios)) if ratios else None,
            "networks": len(ratios),
            "rows": rows,
        }
        RESULT.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"median ratio over {len(ratios)} networks: {np.median(ratios):.1f}")


if __name__ == "__main__":
    main()
