"""How long does pruning itself take, beside Torch-Pruning? Same networks, same machine, one run.

    python -m benchmarks.peer_speed                          # all of torchvision's classifiers
    python -m benchmarks.peer_speed --only resnet50,densenet121 --limit-s 60
    python -m benchmarks.peer_speed --add --only swin_t      # keep the rows that the result file has

Both take half of the channels of every group away, by L2 norm, of a network with random weights. Each runs in
a child process of its own with one thread and the same limits, after it pruned a small network there (so that
imports, thread pools and caches are warm for both) and a garbage collection. Times are CPU seconds of the
child.

Ours, from what torch.export returned to a compact network that trains: `graph` (parameters back into the
graph, normalisation), `label` (labels, groups), `cut` (tensors and graph). Listed beside it, because the
issue's line leaves them out: `export` (torch.export), `score` (the L2 norms of our own `initial_scores`) and
`code` (Python written for the compact graph, which happens when it is first called).
Theirs: `BasePruner` (forward and backward for the graph, groups) and one `step()` (L2 importance, cut); the
output layer is ignored. `runs` tells whether the result computes anything, looked at after the clock.

Where one of the two fails or runs out of memory there is no ratio; where theirs ran out of time, it counts
with the time that it had. The two together make the ratio of the issue: theirs / (graph + label + cut).
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing as mp
import resource
import signal
import time
import warnings
from collections.abc import Callable
from queue import Empty
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common.experiment import Row
from benchmarks.experiments import EXPERIMENTS
from benchmarks.subjects import build, names

SPEED = EXPERIMENTS["peer_speed"]


def small() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """Return a small residual network, to warm up."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.second, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.first(x)))
            return self.last((x + self.second(x)).mean((2, 3)))

    return Small(), (torch.randn(2, 3, 8, 8),)


class Clock:
    """CPU seconds of this process, by the name of what was done last."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.process_time()

    def __call__(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name] = round(now - self._last, 5)
        self._last = time.process_time()


def ours(model: nn.Module, inputs: tuple[Any, ...]) -> Row:
    from dtp_edge.graph.build import label_network
    from dtp_edge.graph.trace import exported, graph_of
    from dtp_edge.surgery.compaction import compact
    from dtp_edge.transport import initial_scores

    clock = Clock()
    program, fixed = exported(model.eval(), inputs)
    clock("export")
    gc.collect()  # what torch.export left behind is not ours to clear
    clock("collect")
    graph_module = graph_of(program, model)
    clock("graph")
    network = label_network(model, graph_module, inputs, dynamic_batch=fixed is None)
    clock("label")
    scores = initial_scores(network, "l2")
    clock("score")
    keep = np.zeros(network.n_atoms, dtype=bool)
    for g in network.groups:
        order = np.argsort(scores[g.start : g.stop])
        keep[g.start + order[len(order) // 2 :]] = True
    clock("choose")
    result = compact(network, keep, in_place=False)
    clock("cut")
    result.graph_module.write_code()
    clock("code")
    found = clock.seconds
    seconds = round(found["graph"] + found["label"] + found["cut"], 5)
    return {"seconds": seconds, **found, **_after(result.graph_module, inputs)}


def theirs(model: nn.Module, inputs: tuple[Any, ...]) -> Row:
    import torch_pruning as tp

    model.eval()
    last = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    gc.collect()
    clock = Clock()
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    pruner = tp.pruner.BasePruner(
        model, inputs[0][:1], importance=importance, pruning_ratio=0.5, ignored_layers=[last]
    )
    clock("groups")
    pruner.step()
    clock("step")
    return {"seconds": round(sum(clock.seconds.values()), 5), **clock.seconds, **_after(model, inputs)}


def _after(module: nn.Module, inputs: tuple[Any, ...]) -> Row:
    """Return the peak memory so far, the parameters left, and whether the result runs."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row: Row = {"peak_mb": round(peak), "params": sum(p.numel() for p in module.parameters()), "runs": True}
    try:
        with torch.no_grad():
            module(*inputs)
    except Exception as error:
        row["runs"] = f"{type(error).__name__}: {str(error)[:80]}"
    return row


def child(task: Callable[..., Row], name: str, limit_s: int, limit_gb: float, queue: Any) -> None:
    warnings.simplefilter("ignore")
    size = int(limit_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    try:
        task(*small())
        model, inputs = build("torchvision", name)
        stop = round(time.process_time()) + limit_s
        resource.setrlimit(resource.RLIMIT_CPU, (stop, stop + 5))
        queue.put({"outcome": "ok", **task(model, inputs)})
    except Exception as error:
        memory = isinstance(error, MemoryError) or "not enough memory" in str(error)
        queue.put({"outcome": "memory" if memory else f"{type(error).__name__}: {str(error)[:80]}"})


def timed(task: Callable[..., Row], name: str, limit_s: int, limit_gb: float) -> Row:
    """Run one tool on one network in a child, which the system stops after `limit_s` CPU seconds of it."""
    context = mp.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(task, name, limit_s, limit_gb, queue))
    process.start()
    found = None
    while found is None:
        alive = process.is_alive()  # asked before: what a child wrote last is still there
        try:
            found = queue.get(timeout=0.5)
        except Empty:
            if not alive:
                break
    process.join()
    if found is None and process.exitcode == -signal.SIGXCPU:
        return {"outcome": "timeout", "seconds": limit_s}
    return found or {"outcome": f"stopped by the system ({process.exitcode})"}


def ratio(row: Row, *parts: str) -> float | None:
    """Return how many times as long as ours theirs took; None if there is nothing to compare."""
    a, b = row["ours"], row["theirs"]
    if a["outcome"] != "ok" or b["outcome"] not in ("ok", "timeout"):
        return None
    return b["seconds"] / (a["seconds"] + sum(a[p] for p in parts))


def summary(rows: list[Row]) -> Row:
    found: Row = {}
    for name, parts in {
        "median_ratio": (),
        "median_ratio_with_score_and_code": ("score", "choose", "code"),
        "median_ratio_with_export_too": ("export", "score", "choose", "code"),
    }.items():
        ratios = [r for r in (ratio(row, *parts) for row in rows) if r is not None]
        found[name] = round(float(np.median(ratios)), 2) if ratios else None
        found["networks"] = len(ratios)
    return {**found, "rows": rows}


def write(rows: list[Row]) -> Row:
    """Write the results as JSON and as a table."""
    found = SPEED.document(summary(rows))
    SPEED.write_page()
    return found


def whole_page() -> str:
    """The page of the committed results."""
    found: Row = json.loads(SPEED.path.read_text())
    head = {k: v for k, v in found.items() if k != "rows"}
    lines = [
        "# Pruning step beside Torch-Pruning\n",
        *(f"- {k.replace('_', ' ')}: {v}" for k, v in head.items()),
        "\nMilliseconds of CPU; `ours` = graph + label + cut, the others are beside it.\n",
        "| network | export | graph | label | cut | ours | score | code | MB | theirs | MB | end | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for row in sorted(found["rows"], key=lambda r: r["network"]):
        a, b, times = row["ours"], row["theirs"], ratio(row)
        cells = [a.get(k) for k in ("export", "graph", "label", "cut", "seconds", "score", "code")]
        mine = " | ".join("-" if c is None else f"{1000 * c:.1f}" for c in cells)
        other = f"{1000 * b['seconds']:.0f}" if "seconds" in b else "-"
        runs = "" if b.get("runs", True) is True else "; result does not run"
        word = (a["outcome"] if a["outcome"] != "ok" else b["outcome"]).replace("|", "/")
        shown = "-" if times is None else f"{'>' if b['outcome'] == 'timeout' else ''}{times:.1f}"
        lines.append(
            f"| {row['network']} | {mine} | {a.get('peak_mb', '-')} | {other} | {b.get('peak_mb', '-')} "
            f"| {word}{runs} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--add", action="store_true", help="keep the other rows of the result file")
    parser.add_argument("--limit-s", type=int, default=180)
    parser.add_argument("--limit-gb", type=float, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = args.only.split(",") if args.only else names("torchvision")
    kept = json.loads(SPEED.path.read_text())["rows"] if args.add and SPEED.path.exists() else []
    rows = [r for r in kept if r["network"] not in chosen]
    for name in chosen:
        row: Row = {"network": name}
        for side, task in (("ours", ours), ("theirs", theirs)):
            row[side] = timed(task, name, args.limit_s, args.limit_gb)
        rows.append(row)
        write(rows)
        a, b, times = row["ours"], row["theirs"], ratio(row)
        print(
            f"{name:22s} ours {a.get('seconds', 0):7.4f} s {a['outcome']} {a.get('peak_mb', 0)} MB   "
            f"theirs {b.get('seconds', 0):7.3f} s {b['outcome']} {b.get('peak_mb', 0)} MB   "
            f"{times or float('nan'):6.1f}x",
            flush=True,
        )
    print({k: v for k, v in write(rows).items() if k != "rows"})


if __name__ == "__main__":
    main()
