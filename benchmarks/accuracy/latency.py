"""Accuracy at equal *measured* latency: ONNX Runtime, batch 1, one thread, on this machine.

    python -m benchmarks.accuracy.latency ours --data ... --weights ... --files DIR     train ours, export
    python -m benchmarks.accuracy.latency prepare --files DIR ...    the peers' networks, untrained
    python -m benchmarks.accuracy.latency measure --files DIR        all of them in turns; on a quiet machine
    python -m benchmarks.accuracy.latency peers --files DIR ...      train the peers' networks that are chosen
    python -m benchmarks.accuracy.latency picture --files DIR

Ours learns its masks under `--targets` of the dense network's latency as the profile `--device` predicts it.
The peers have no latency: each gets the largest of its networks (a pruning ratio every 1.5 %) whose
measured latency is no more than the target's, or than what ours measures where that is more. Dense, ours
and all ladders are timed in one run, in turns. Then all get the same training as in `at_budget.py`, whose
options hold here too. Writes results/accuracy_latency.jsonl and .svg.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.accuracy.at_budget import Bench, parser_of_options
from benchmarks.accuracy.page import LATENCY_HEAD, latency_table
from benchmarks.accuracy.peers import macs_of, prune_with_peer, same_share
from benchmarks.common.experiment import RESULTS
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.graph import trace_network
from dtp_edge.measure.timing import bind, make_session, random_feed, time_interleaved
from dtp_edge.onnx import export_onnx
from dtp_edge.surgery import compact
from dtp_edge.training import evaluate
from dtp_edge.transport import initial_scores

RATIOS = [round(float(r), 4) for r in np.arange(0.05, 0.931, 0.015)]
SETTINGS = ("distill", "steps", "refit", "ridge", "device", "share", "rates", "clip", "precision")
# Torch-Pruning's best of at_budget.py at 50 % MACs (global L2) and at 35 % (local group norm), with widths as
# they come and rounded, inside the blocks as there; uniform: the same share of every group, streams as well.
# Of each: importance, over the whole network or layer by layer, multiple of the widths
VARIANTS: dict[str, tuple[str, bool, int | None]] = {
    "tp-l2-global": ("l2", True, None),
    "tp-l2-global-r8": ("l2", True, 8),
    "tp-l2-global-r16": ("l2", True, 16),
    "tp-group-local": ("group", False, None),
    "tp-group-local-r8": ("group", False, 8),
    "uniform": ("l2", False, None),
}

# what the picture calls each
LINES = {
    "ours-latency": "ours, widths",
    "ours-latency-inside": "ours, widths",
    "ours-depth-latency": "ours, blocks and widths",
    "calibrated-latency": "ours, blocks and widths by calibration",
    "greedy-depth-latency": "blocks one by one",
    "greedy-context-latency": "blocks one by one, fitted as ours",
}


def pruned(bench: Bench, variant: str, ratio: float) -> nn.Module:
    model = copy.deepcopy(bench.model).cpu()
    importance, everywhere, multiple = VARIANTS[variant]
    if variant == "uniform":
        network = trace_network(model, (bench.x,))
        scores = initial_scores(network, importance)
        return compact(network, same_share(network, scores, 1 - ratio)).module
    return prune_with_peer(model, bench.x, importance, everywhere, ratio, [], multiple)


def train_ours(bench: Bench, options: argparse.Namespace) -> None:
    """Masks under each predicted latency, fine-tune, export; the row waits for its measurement."""
    method = options.methods or "ours-latency"
    for seed in map(int, options.seeds.split(",")):
        for target in options.targets.split(","):
            bench.options.latency = target
            module, row = bench.run(method, seed, float(options.rates))
            blocks = f"+b{options.block_distill:g}" if options.block_distill else ""
            name = f"{method}{blocks}.{target.rstrip('%')}.{seed}"
            row |= {"method": method + blocks, "target": target, "seed": seed}
            finish(bench, module, row, options)
            export_onnx(copy.deepcopy(module).eval(), (bench.x,), Path(options.files) / f"{name}.onnx")


def prepare(bench: Bench, options: argparse.Namespace) -> None:
    """Dense and every network of the ladders as ONNX; equal ones once."""
    folder = Path(options.files)
    export_onnx(copy.deepcopy(bench.model).eval(), (bench.x,), folder / "dense.onnx")
    for variant in options.methods.split(",") if options.methods else VARIANTS:
        seen: set[int] = set()
        for ratio in RATIOS:
            module = pruned(bench, variant, ratio).eval()
            macs = macs_of(module, bench.x)
            if macs not in seen:
                seen.add(macs)
                export_onnx(module, (bench.x,), folder / f"{variant}.{ratio}.onnx")


def measure(options: argparse.Namespace) -> None:
    """Time all files in turns; write each one's median share of the dense latency, round by round."""
    folder = Path(options.files)
    files = [folder / "dense.onnx", *sorted(f for f in folder.glob("*.onnx") if f.stem != "dense")]
    sessions = [make_session(f, 1) for f in files]
    runners = [bind(s, random_feed(s)) for s in sessions]
    samples = time_interleaved(runners, seconds=options.seconds)
    share = np.median(samples / samples[0], axis=1)
    table = {
        f.stem: {"ms": float(np.median(row)), "share": float(part)}
        for f, row, part in zip(files, samples, share, strict=True)
    }
    (folder / "measured.json").write_text(json.dumps({"rounds": samples.shape[1], "files": table}, indent=1))
    print(f"{len(files)} files, {samples.shape[1]} rounds, dense {table['dense']['ms']:.3f} ms")


def chosen(options: argparse.Namespace) -> list[tuple[str, str, float, dict[str, float]]]:
    """(variant, target, ratio, measurement): the least pruned network of each ladder that is quick enough."""
    table = json.loads((Path(options.files) / "measured.json").read_text())["files"]
    found = []
    for target in options.targets.split(","):
        limit = float(target.rstrip("%")) / 100
        ours = [
            v["share"] for k, v in table.items() if k.startswith("ours") and f".{target.rstrip('%')}." in k
        ]
        limit = max([limit, *ours])
        for variant in VARIANTS:
            ladder = {
                float(k[len(variant) + 1 :]): v for k, v in table.items() if k.startswith(variant + ".")
            }
            fits = [ratio for ratio, v in ladder.items() if v["share"] <= limit]
            if fits:
                found.append((variant, target, min(fits), ladder[min(fits)]))
            else:
                print(f"{variant} does not reach {limit:.1%} of the dense latency")
    return found


def train_peers(bench: Bench, options: argparse.Namespace) -> None:
    wanted = options.methods.split(",") if options.methods else list(VARIANTS)
    for seed in map(int, options.seeds.split(",")):
        for variant, target, ratio, _ in chosen(options):
            if variant in wanted:
                module = pruned(bench, variant, ratio)
                widths = {n: m.out_channels for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
                module, row = bench.run(variant, seed, float(options.rates), (module, widths))
                row |= {"method": variant, "target": target, "seed": seed, "ratio": ratio}
                finish(bench, module, row, options)


def finish(bench: Bench, module: nn.Module, row: dict[str, Any], options: argparse.Namespace) -> None:
    if not options.explore:
        row["test"] = evaluate(module, bench.data.test)
    settings = {
        k: v
        for k, v in vars(options).items()
        if k in ("distill", "block_distill", "steps", "refit", "device", "share")
    }
    row |= {"base": bench.base_test, "settings": settings}
    EXPERIMENTS["accuracy_latency"].append(row, Path(options.files) / "rows.jsonl")
    shown = f"test {row['test']:.4f}" if "test" in row else "test not read"
    print(
        f"{row['method']:20} {row['target']} seed {row['seed']} hold-out {row['holdout']:.4f} {shown}",
        flush=True,
    )


def picture(options: argparse.Namespace) -> None:
    """Join rows and measurements, write the table and the frontier; rows of other files stay."""
    folder = Path(options.files)
    table = json.loads((folder / "measured.json").read_text())
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        key = (
            f"{row['method']}.{row['target'].rstrip('%')}.{row['seed']}"
            if "ratio" not in row
            else f"{row['method']}.{row['ratio']}"
        )
        row |= {"latency_ms": table["files"][key]["ms"], "latency_share": table["files"][key]["share"]}
        row |= {"dense_ms": table["files"]["dense"]["ms"], "rounds": table["rounds"]}
    # the rows have their origin already: each was trained at its own commit
    new = {same(row) for row in rows}
    rows = [row for row in EXPERIMENTS["accuracy_latency"].read() if same(row) not in new] + rows
    EXPERIMENTS["accuracy_latency"].path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    print(LATENCY_HEAD + "\n".join(latency_table(rows)))
    points: dict[str, list[tuple[float, float]]] = {}
    for target, method in dict.fromkeys((r["target"], r["method"]) for r in rows if "test" in r):
        found = [r for r in rows if (r["target"], r["method"]) == (target, method) and "test" in r]
        share, test = (100 * float(np.mean([r[k] for r in found])) for k in ("latency_share", "test"))
        points.setdefault(LINES.get(method, method), []).append((share, test))
    draw(points, 100 * rows[0]["base"])


def same(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is of: made again it takes the place of the one before."""
    return row["method"], row["target"], row["seed"]


def draw(points: dict[str, list[tuple[float, float]]], base: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "accuracy"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for (method, line), marker in zip(points.items(), "osD^v<>p", strict=False):
        ours = method.startswith("ours")
        x, y = zip(*sorted(line), strict=True)
        axes.plot(x, y, marker=marker, linewidth=2.5 if ours else 1.2, label=method, zorder=3 if ours else 2)
    axes.axhline(base, color="grey", linestyle=":", linewidth=1, label=f"dense base {base:.1f}")
    axes.set_xlabel("measured latency, % of dense (ONNX Runtime, batch 1, one thread)")
    axes.set_ylabel("CIFAR-10 test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(RESULTS / "accuracy_latency.svg", metadata={"Date": None})


def main() -> None:
    parser = parser_of_options(__doc__)
    parser.add_argument("what", choices=["ours", "prepare", "measure", "peers", "picture"])
    parser.add_argument("--files", default="runs/accuracy-latency", help="ONNX files, measurements, rows")
    parser.add_argument("--targets", default="60%,45%,30%")
    parser.add_argument("--seconds", type=float, default=100.0, help="of measuring")
    parser.set_defaults(device="epyc-zen5-onnxruntime-fp32-1t", methods="")
    options = parser.parse_args()
    options.distill = float(options.distill)
    torch.set_num_threads(1)
    Path(options.files).mkdir(parents=True, exist_ok=True)
    if options.what in ("measure", "picture"):
        {"measure": measure, "picture": picture}[options.what](options)
        return
    {"ours": train_ours, "prepare": prepare, "peers": train_peers}[options.what](Bench(options), options)


if __name__ == "__main__":
    sys.exit(main())
