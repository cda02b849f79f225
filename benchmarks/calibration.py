"""Pruning without labels: calibration beside today's start and the peers, in one run from one base.

    python -m benchmarks.calibration --data cifar10:DIR --weights DIR/resnet20.safetensors --base-steps 1000
    python -m benchmarks.calibration --budgets latency=70% --device epyc-zen5-onnxruntime-fp32-1t ...
    python -m benchmarks.calibration --model resnet56 ... --explore          # the hold-out only
    python -m benchmarks.calibration --table                                 # the page of the rows

Nothing is trained behind the base (which is fine-tuned and kept as in `benchmarks.accuracy.at_budget`). Every
seed draws `--calibration-images` images of the training set. Latencies are the profile's; a row with one also
has the share of the dense network's that ONNX Runtime measures here, in turns. Methods:

    start      what a training starts from: Taylor scores of the labels, priced, plain least squares
    tp-*       Torch-Pruning in one shot, inside the blocks, batch norms re-estimated on the same images
    tp-*+fit   the channels of that, with our repair
    channels   `--calibrate --no-depth`: no labels
    ours       `--calibrate`: channels and whole branches, no labels; in one row with 2e12 in place of 1.6e12
               multiply-accumulates of trials, and 128 samples in place of 64 for each group alone: no better

The test set is read once for each row, unless `--explore` is given; choices were made on the hold-out.
"""

from __future__ import annotations

import copy
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.accuracy.at_budget import Bench, parser_of_options
from benchmarks.accuracy.page import about_origin, mean_and_spread
from benchmarks.accuracy.peers import bisect, macs_of, prune_with_peer
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.measure import load_profile
from dtp_edge.measure.timing import bind, make_session, random_feed, time_interleaved
from dtp_edge.onnx import export_onnx
from dtp_edge.run.calibrated_widths import keep_by_calibration
from dtp_edge.run.output_error import compared, outputs_of
from dtp_edge.run.task import Task
from dtp_edge.run.trials import RIDGE
from dtp_edge.surgery import compact, refit
from dtp_edge.training import evaluate
from dtp_edge.training.feed import Feed
from dtp_edge.training.recalibrate import renew
from dtp_edge.transport import Budget, initial_scores, prices

METHODS = "start,tp-l2-global,tp-l2-global+fit,tp-taylor-global,tp-taylor-global+fit,channels,ours"
BATCH = 128
Made = tuple[nn.Module, Any]


class NotReached(Exception):
    """A peer has no network within the budget."""


class Calibration:
    """One base, one draw of images, one budget."""

    def __init__(self, bench: Bench, budget: str, images: int, seed: int) -> None:
        self.bench, self.seed = bench, seed
        self.kind, _, share = budget.partition("=")
        self.share = float(share.rstrip("%")) / 100
        self.profile = load_profile(bench.options.device)
        order = torch.randperm(len(bench.data.train), generator=torch.Generator().manual_seed(seed))[:images]
        split = bench.data.train.subset(order)  # type: ignore[attr-defined]
        self.labelled = list(split.ordered(BATCH))
        self.images: list[tuple[Tensor]] = [(x,) for x, _ in self.labelled]
        self.budget = Budget(**{self.kind: share})

    def make(self, method: str) -> Made:
        """Cut and repair."""
        self.network = trace_network(copy.deepcopy(self.bench.model), (self.bench.x,), depth=method == "ours")
        self.task = Task.of(self.network, self.profile, self.budget)
        if method in ("channels", "ours"):
            keep = keep_by_calibration(self.task, self.images, self.seed).keep
            return self._fitted(keep, streams=True)
        if method == "start":
            few = [(x[:64], y[:64]) for x, y in self.labelled[:4]]
            price = prices(self.network, self.task.cost, self.task.limits)
            scores = initial_scores(self.network, "taylor", few, price=price)
            return self._fitted(self.task.harden(scores), streams=False)
        module = self._peer(*method.removesuffix("+fit").split("-")[1:])
        if not method.endswith("+fit"):
            renew(module, self.labelled, Feed())
            return module, [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
        return self._fitted(channels_of(self.network, self.bench.model, module), streams=True)

    def _fitted(self, keep: np.ndarray, *, streams: bool) -> Made:
        """Cut and repaired; plain least squares (and its ridge) as the training of the product does it."""
        compacted = compact(self.network, keep)
        dense = self.bench.model.state_dict()
        settings: dict[str, Any] = {"ridge": RIDGE, "streams": True} if streams else {}
        given = self.images if streams else [(torch.cat([x for (x,) in self.images]),)]
        refit(self.network, compacted, dense, given, **settings)
        if not streams:
            renew(compacted.module, self.labelled, Feed())
        return compacted.module, self.network.widths(keep)

    def _peer(self, kind: str, scope: str) -> nn.Module:
        def pruned(ratio: float) -> nn.Module:
            model = copy.deepcopy(self.bench.model)
            return prune_with_peer(model, self.bench.x, kind, scope == "global", ratio, self.labelled[:2])

        found = pruned(1 - bisect(lambda keep: self.spends(pruned(1 - keep)) <= self.share, steps=8))
        if self.spends(found) > self.share:
            raise NotReached(f"{kind}-{scope} cannot reach {self.kind}={self.share:.0%} inside the blocks")
        return found

    def spends(self, module: nn.Module) -> float:
        """Which share of the dense network's cost a network has, of what the budget limits."""
        if self.kind == "macs":
            return macs_of(module, self.bench.x) / self.bench.dense_macs
        both = (module, self.bench.model)
        found = [NetworkCost(trace_network(m, (self.bench.x,)).layers, self.profile) for m in both]
        one, dense = (cost.evaluate(cost.dense_sizes())["latency_ms"] for cost in found)
        return one / dense


def measured_share(bench: Bench, module: nn.Module, seconds: float = 8.0) -> float:
    """The share of the dense network's latency in ONNX Runtime, batch 1, one thread, timed in turns."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("dense.onnx", "cut.onnx")]
        for file, one in zip(files, (bench.model, module), strict=True):
            export_onnx(copy.deepcopy(one).eval(), (bench.x,), file)
        sessions = [make_session(file, 1) for file in files]
        samples = time_interleaved([bind(s, random_feed(s)) for s in sessions], seconds=seconds)
    return float(np.median(samples[1] / samples[0]))


def channels_of(network: PrunableNetwork, dense: nn.Module, pruned: nn.Module) -> np.ndarray:
    """Which atoms a peer kept inside the blocks: rows of its layers found again in those of the dense
    network."""
    keep = np.ones(network.n_atoms, dtype=bool)
    ours, theirs = dict(dense.named_modules()), dict(pruned.named_modules())
    for group in network.groups:
        layer = theirs.get(group.name)
        if not isinstance(layer, nn.Conv2d) or layer.out_channels == group.total:
            continue
        rows, kept = ours[group.name].weight.flatten(1), layer.weight.flatten(1)  # type: ignore[union-attr]
        found = torch.cdist(kept.double(), rows.double()).argmin(1)
        keep[group.start : group.stop] = False
        keep[group.start + found.numpy()] = True
    return keep


def rows_of(options: Any) -> Iterator[dict[str, Any]]:
    bench = Bench(options)
    pairs = list(bench.data.holdout.ordered(500))
    held, labels = [(x,) for x, _ in pairs], torch.cat([y for _, y in pairs])
    wanted = outputs_of(bench.model, held)
    base = {"base": bench.base_test, "base_holdout": _right(wanted, labels)}
    for budget in options.budgets.split(","):
        for seed in map(int, options.seeds.split(",")):
            task = Calibration(bench, budget, options.calibration_images, seed)
            for method in options.methods.split(","):
                wall, cpu = time.time(), time.process_time()
                try:
                    module, widths = task.make(method)
                except NotReached as reason:
                    print(reason, flush=True)
                    continue
                seconds = {"seconds": time.time() - wall, "cpu_seconds": time.process_time() - cpu}
                module.eval()
                made = outputs_of(module, held)
                error, agreement = compared(made, wanted)
                row: dict[str, Any] = {"model": options.model, "method": method, "budget": budget}
                row |= {"seed": seed, "holdout": _right(made, labels), **base}
                row |= {"device": options.device} if task.kind == "latency" else {}
                row |= {"agreement": agreement, "output_error": error, "widths": widths}
                row |= {"macs_ratio": macs_of(module, bench.x) / bench.dense_macs}
                if task.kind == "latency":
                    row |= {"latency_ratio": task.spends(module)}
                    row |= {"measured_latency_ratio": measured_share(bench, module)}
                row |= {name: round(value, 1) for name, value in seconds.items()}
                row["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                row["images"] = options.calibration_images
                if not options.explore:
                    row["test"] = evaluate(module, bench.data.test)
                yield row


def _right(outputs: list[Tensor], labels: Tensor) -> float:
    return float((torch.cat(outputs).argmax(1) == labels).double().mean())


def whole_page() -> str:
    return page(EXPERIMENTS["calibration"].read())


def page(rows: list[dict[str, Any]]) -> str:
    """A table a network: mean over the seeds, and their spread; of several runs of one draw the last."""
    rows = list({(row["model"], row["budget"], row["method"], row["seed"]): row for row in rows}.values())
    lines = [
        "# Pruning without labels",
        "",
        "CIFAR-10, nothing trained behind the base; see `benchmarks/calibration.py` for the methods.",
        "Means over the draws of calibration images (their spread). `start` and `tp-taylor` read labels.",
    ]
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        tested = all("test" in row for row in mine)
        lines += [
            "",
            f"## {model}",
            "",
            f"Base: test {mine[0]['base']:.2%}, hold-out {mine[0]['base_holdout']:.2%}.",
        ]
        lines += [
            "",
            "| budget | method | MACs | measured latency | test | hold-out | agrees with the dense "
            "| CPU seconds | draws |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for budget in dict.fromkeys(row["budget"] for row in mine):
            for method in dict.fromkeys(row["method"] for row in mine):
                some = [row for row in mine if (row["budget"], row["method"]) == (budget, method)]
                if some:
                    test = mean_and_spread(some, "test") if tested else "not read"
                    timed = "measured_latency_ratio" in some[0]
                    cells = [budget, method, mean_and_spread(some, "macs_ratio")]
                    cells.append(mean_and_spread(some, "measured_latency_ratio") if timed else "")
                    cells += [test, mean_and_spread(some, "holdout"), mean_and_spread(some, "agreement")]
                    cells += [f"{np.mean([row['cpu_seconds'] for row in some]):.0f}", str(len(some))]
                    lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *about_origin(rows)]).rstrip() + "\n"


def main() -> None:
    parser = parser_of_options(__doc__)
    parser.set_defaults(methods=METHODS, seeds="0,1,2")
    parser.add_argument("--budgets", default="macs=50%,macs=35%")
    parser.add_argument("--calibration-images", type=int, default=512)
    options = parser.parse_args()
    options.distill = float(options.distill)
    torch.set_num_threads(options.threads)
    out = Path(options.out) if options.out else None
    if options.table:
        print(page(EXPERIMENTS["calibration"].read(out)))
        return
    for row in rows_of(options):
        EXPERIMENTS["calibration"].append(row, out)
        test = f"{row['test']:.4f}" if "test" in row else "not read"
        print(
            f"{row['model']} {row['budget']} {row['method']:22} seed {row['seed']} "
            f"hold-out {row['holdout']:.4f} test {test} "
            f"agrees {row['agreement']:.4f} CPU {row['cpu_seconds']} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
