"""Accuracy at a budget: ours and the peers from one base, with one recipe. A table a command.

    python -m benchmarks.accuracy.at_budget --data cifar10:DIR --weights DIR/resnet20.safetensors \\
        --macs 50% --steps 234

Everything that is trained gets the same number of optimiser steps after the base, the same batches'
distribution, augmentation and loss; what learns masks pays for that out of the same steps. A rate in
`--rates` is chosen for every method by itself, on held-out training images; the test set is read once, for
the chosen one. `--distill 0` is the table without the dense network's logits. Methods:

    ours-macs, ours-latency          masks learned under that budget; latency as predicted for `--device`
    ours-macs-inside, ours-latency-inside  the same, inside the blocks only (what the peers may prune)
    ours-depth-macs, ours-depth-latency   the same with whole branches in the same transport
    calibrated-macs, calibrated-latency  branches and widths as a calibration on 512 training images decides,
                                     without labels or steps (the usual recipe): all steps tune
    greedy-depth-macs, greedy-depth-latency  branches only, widths full: one after the other the one without
                                     which the loss is lowest (training batches, batch statistics renewed,
                                     measured anew after each), until the budget holds; each layer is then
                                     fitted to its own output (`greedy-context-...`: to the sum it is added
                                     to, as ours)
    tp-{l2,taylor,group}-{global,local}   Torch-Pruning, inside the blocks only where a shortcut pads
                                     channels (there it changes the function), all channels elsewhere
    uniform, random                  the same share of every group: the largest by L2, or any
    control                          dense, the same training

Rows are appended to results/accuracy.jsonl as they come; `--table` prints what is there.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.accuracy.page import tables
from benchmarks.accuracy.peers import (
    PEER_SETTINGS,
    base_in_file,
    bisect,
    macs_of,
    prune_with_peer,
    same_share,
)
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.graph import PrunableNetwork, trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.calibrated_start import cut_by_calibration
from dtp_edge.run.task import Task
from dtp_edge.surgery import Compact, compact, refit, refit_to_train
from dtp_edge.training import (
    DataSource,
    Recipe,
    Session,
    evaluate,
    fine_tune,
    learn_masks,
    load_data,
    open_session,
    recalibrate,
    train_base,
    with_seed,
)
from dtp_edge.training.distil import BlockDistillation
from dtp_edge.training.runtime import move
from dtp_edge.transport import Budget, Meter, initial_scores, prices
from dtp_edge.transport.branch_losses import greedy_removals
from dtp_edge.transport.harden import MIN_KEEP
from dtp_edge.zoo import resolve_model

PEERS = [f"tp-{setting}" for setting in PEER_SETTINGS]
METRICS = ("macs", "latency")
OURS = ["ours-macs", "ours-macs-inside", "ours-latency", "ours-latency-inside"]
DEPTH = [f"{how}-{metric}" for how in ("ours-depth", "greedy-depth", "greedy-context") for metric in METRICS]
CALIBRATED = [f"calibrated-{metric}" for metric in METRICS]
CALIBRATION_IMAGES, CALIBRATION_BATCH = 512, 128
METHODS = [*OURS, *CALIBRATED, *DEPTH, *PEERS, "uniform", "random", "control"]


class Bench:
    """One base network, one data set, one number of steps."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data: DataSource = load_data(options.data)
        if options.images:
            some = torch.arange(options.images)
            self.data = replace(
                self.data, holdout=self.data.holdout.subset(some), test=self.data.test.subset(some)
            )
        self.model, (self.x,), _ = resolve_model(
            options.model, options.weights, self.data.num_classes, self.data.input_shape
        )
        self.epochs = 1 / (len(self.data.train) // options.batch_size)  # of one step
        self._base()
        self.dense_macs = macs_of(self.model, self.x)

    def _base(self) -> None:
        """Fine-tune the given weights on this data; kept in a file, so that all tables share it."""
        options = self.options

        def train() -> None:
            before = evaluate(self.model, self.data.test)
            recipe = self.recipe(0, options.base_rate, distill=0.0)
            recipe = replace(recipe, base_epochs=options.base_steps * self.epochs)
            train_base(self.model, open_session(self.data, recipe))
            print(f"base: {before:.4f} as given, {options.base_steps} steps", flush=True)

        def score() -> float:
            return evaluate(self.model, self.data.test)

        self.base_test = base_in_file(self.model, Path(options.base), train, score)
        move(self.model, "cpu")  # training may have taken it to a GPU; networks are traced and cut here
        print(f"base: test {self.base_test:.4f}", flush=True)

    def recipe(self, seed: int, rate: float, distill: float | None = None) -> Recipe:
        o = self.options
        recipe = Recipe(
            batch_size=o.batch_size,
            base_learning_rate=rate,
            mask_learning_rate=o.mask_rate or rate,
            tune_learning_rate=rate,
            score_learning_rate=o.score_rate,
            schedule=o.schedule,
            ema=o.ema,
            gradient_clip=o.clip,
            distill=o.distill if distill is None else distill,
            temperature=o.temperature,
            block_distill=o.block_distill,
            mixed_precision=o.precision,
            channels_last=True,
        )
        return with_seed(recipe, seed)

    def ours(
        self, session: Session, teacher: nn.Module, budget: Budget, method: str
    ) -> tuple[nn.Module, Any, BlockDistillation | None]:
        """Learn masks for a share of the steps, cut; the tuned rest is left to the caller."""
        o, recipe = self.options, session.recipe
        model = copy.deepcopy(self.model)
        inside, depth = method.endswith("inside"), method in [*DEPTH, *CALIBRATED]
        # a norm behind a block carries the residual stream: excluding it leaves the stream whole
        exclude = [n for n, _ in model.named_modules() if n == "bn1" or n.endswith("bn2")] if inside else []
        network = trace_network(model, (self.x,), exclude=exclude, depth=depth)
        task = Task.of(network, load_profile(o.device), budget)
        if method in CALIBRATED:
            chosen, compacted = cut_by_calibration(task, self.inputs(recipe.seed), recipe.seed)
            return (
                compacted.module,
                network.widths(chosen.keep),
                self.blocks(network, chosen.keep, compacted, teacher),
            )
        if method.startswith("greedy"):
            keep = greedy_branches(task, self.gradient_batches(recipe.seed, 4))
        else:
            keep = self.learned(task, session, teacher, depth)
        if o.restart:
            move_weights(network.module, teacher)
        compacted = compact(network, keep)
        if o.refit:
            images = torch.cat([x for x, _ in self.gradient_batches(recipe.seed, 4)])
            images = images.to(session.runtime.device)
            fit = refit if method.startswith("greedy-depth") else refit_to_train
            fit(network, compacted, teacher.state_dict(), [(images,)], ridge=o.ridge)
        return compacted.module, network.widths(keep), self.blocks(network, keep, compacted, teacher)

    def blocks(
        self, network: PrunableNetwork, keep: np.ndarray, cut: Compact, teacher: nn.Module
    ) -> BlockDistillation | None:
        """What distils the outputs of blocks, if that was asked for."""
        if not self.options.block_distill:
            return None
        return BlockDistillation.of_compact(network, keep, cut.module, teacher, in_graph=cut.kind == "graph")

    def inputs(self, seed: int) -> list[tuple[torch.Tensor]]:
        """Images of the training split, drawn by the seed, that a calibration looks at."""
        order = torch.randperm(len(self.data.train), generator=torch.Generator().manual_seed(seed))
        split = self.data.train.subset(order[:CALIBRATION_IMAGES])  # type: ignore[attr-defined]
        return [(x,) for x, _ in split.ordered(CALIBRATION_BATCH)]

    def learned(self, task: Task, session: Session, teacher: nn.Module, depth: bool) -> np.ndarray:
        """What stays after masks were learned for their share of the steps."""
        o, recipe, network = self.options, session.recipe, task.network
        batches = self.gradient_batches(recipe.seed) if o.start == "taylor" else None
        judged: list[Any] = []
        if depth and batches:
            batches, judged = batches[:4], batches[4:]
        price = prices(network, task.cost, task.limits) if o.price else None
        scores = None if depth else initial_scores(network, o.start, batches, price=price)
        learner = task.learner(
            session.steps(recipe.mask_epochs),
            batches=batches if depth else None,
            judged=judged,
            scores=scores,
            logit_scale=o.logit_scale,
            ramp=o.ramp,
            min_keep=o.min_keep,
        )
        learn_masks(learner, session, teacher)
        return learner.harden()

    def same_share(self, seed: int, largest: bool) -> tuple[nn.Module, Any]:
        """The same share of every group, by bisection on the MACs."""
        network = trace_network(copy.deepcopy(self.model), (self.x,))
        scores = initial_scores(network, "l2")
        if not largest:
            scores = np.random.default_rng(seed).permutation(len(scores)).astype(float)

        def fits(share: float) -> bool:
            return (
                macs_of(compact(network, same_share(network, scores, share)).module, self.x) <= self.limit()
            )

        keep = same_share(network, scores, bisect(fits))
        return compact(network, keep).module, network.widths(keep)

    def peer(self, method: str, seed: int) -> tuple[nn.Module, Any]:
        """Torch-Pruning in one shot, its pruning ratio bisected until the MACs fit."""
        _, kind, scope = method.split("-")

        def pruned(ratio: float) -> nn.Module:
            return prune_with_peer(
                copy.deepcopy(self.model).cpu(),
                self.x,
                kind,
                scope == "global",
                ratio,
                self.gradient_batches(seed),
            )

        share = bisect(lambda keep: macs_of(pruned(1 - keep), self.x) <= self.limit(), steps=9)
        module = pruned(1 - share)
        return module, {n: m.out_channels for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}

    def gradient_batches(self, seed: int, count: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
        batches = self.data.train.shuffled(128, seed=seed, epoch=0)
        return [b for b, _ in zip(batches, range(count), strict=False)]

    def limit(self) -> float:
        return float(self.options.macs.rstrip("%")) / 100 * self.dense_macs

    def run(
        self, method: str, seed: int, rate: float, given: tuple[nn.Module, Any] | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Prune (unless the pruned network and its widths are `given`) and train one method with one
        learning rate; accuracies of the hold-out."""
        o, began, cpu = self.options, time.time(), time.process_time()
        recipe = self.recipe(seed, rate)
        masks = round(o.share * o.steps) if method.startswith("ours") else 0
        recipe = replace(recipe, mask_epochs=masks * self.epochs, tune_epochs=(o.steps - masks) * self.epochs)
        session = open_session(self.data, recipe)
        teacher, blocks = copy.deepcopy(self.model).requires_grad_(False), None
        if given is not None:
            module, widths = given
        elif method.startswith(("ours", "greedy", "calibrated")):
            budget = Budget(latency=o.latency) if "latency" in method else Budget(macs=o.macs)
            module, widths, blocks = self.ours(session, teacher, budget, method)
        elif method in ("uniform", "random"):
            module, widths = self.same_share(seed, method == "uniform")
        elif method == "control":
            module, widths = copy.deepcopy(self.model), {}
        else:
            module, widths = self.peer(method, seed)
        if method not in ("control", *CALIBRATED):  # a calibration leaves its norms as they should be
            recalibrate(module, self.data, recipe.recalibrate_batches, o.batch_size, seed)
        row: dict[str, Any] = {"at_cut_holdout": evaluate(module, self.data.holdout)}
        curve = fine_tune(
            module,
            session,
            teacher if recipe.distill else None,
            name=f"{method}-{seed}-{rate}",
            blocks=blocks,
        )
        # what remains is what did best on the hold-out, which may be what the training began with
        scored = [r["holdout_accuracy"] for r in curve if "holdout_accuracy" in r]
        row["holdout"] = max(row["at_cut_holdout"], *scored)
        row |= {"macs_ratio": macs_of(module, self.x) / self.dense_macs, "widths": widths, "rate": rate}
        row |= {"seconds": round(time.time() - began), "cpu_seconds": round(time.process_time() - cpu)}
        return module, row


def greedy_branches(task: Task, batches: list[Any]) -> np.ndarray:
    """Which atoms stay where only branches go: always the one without which the loss is lowest now."""
    network, meter = task.network, Meter(task.network, task.cost, task.limits)
    keep = np.ones(network.n_atoms, dtype=bool)
    for pattern in greedy_removals(network, meter, batches):
        keep[[branch.atom for branch in network.branches]] = pattern.astype(bool)
    if not meter.fits(network.opened(keep).astype(float)):
        raise SystemExit("branches alone do not reach the budget")
    return network.settled(keep)


def move_weights(module: nn.Module, source: nn.Module) -> None:
    with torch.no_grad():
        other = source.state_dict()
        for name, tensor in module.state_dict().items():
            tensor.copy_(other[name])


def run_table(options: argparse.Namespace) -> None:
    bench = Bench(options)
    budgets, weights = options.macs.split(","), options.distill.split(",")
    for macs in budgets:
        for distill in weights:
            options.macs, options.distill = macs, float(distill)
            run_block(bench, options)


def run_block(bench: Bench, options: argparse.Namespace) -> None:
    """All methods and seeds at one budget with one loss."""
    settings = {
        k: v
        for k, v in vars(options).items()
        if k not in ("table", "methods", "seeds", "data", "weights", "base", "out")
    }
    for method in options.methods.split(","):
        if method not in METHODS:
            raise SystemExit(f"unknown method {method}; known: {', '.join(METHODS)}")
        for seed in map(int, options.seeds.split(",")):
            tried = []
            for rate in map(float, options.rates.split(",")):
                module, row = bench.run(method, seed, rate)
                tried.append((row["holdout"], rate, module, row))
                print(f"  {method} seed {seed} rate {rate}: hold-out {row['holdout']:.4f}", flush=True)
            _, _, module, row = max(tried, key=lambda t: t[:2])
            row["tried"] = {str(rate): holdout for holdout, rate, _, _ in tried}
            if not options.explore:
                row["test"] = evaluate(module, bench.data.test)
            row |= {"method": method, "seed": seed, "base": bench.base_test, "settings": settings}
            EXPERIMENTS["accuracy"].append(row, Path(options.out) if options.out else None)
            print(f"{method:18} seed {seed}  {summary(row)}", flush=True)


def summary(row: dict[str, Any]) -> str:
    test = f"{row['test']:.4f}" if "test" in row else "not read"
    return (
        f"MACs {row['macs_ratio']:.3f}  at the cut {row['at_cut_holdout']:.4f}  "
        f"hold-out {row['holdout']:.4f}  test {test}  {row['seconds']} s"
    )


def parser_of_options(description: str | None) -> argparse.ArgumentParser:
    """What this table and `latency.py` can be told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", help="checkpoint that the base is fine-tuned from")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--base", default="runs/accuracy-base.safetensors", help="where the base is kept")
    parser.add_argument("--base-steps", type=int, default=234)
    parser.add_argument("--base-rate", type=float, default=0.02)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--macs", default="50%", help="budgets, with commas")
    parser.add_argument("--latency", default="60%")
    parser.add_argument("--device", default="rpi4-ncnn-fp32-1t")
    parser.add_argument("--steps", type=int, default=234, help="optimiser steps after the base, for all")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rates", default="0.05", help="learning rates, the best chosen on the hold-out")
    parser.add_argument("--schedule", default="cosine")
    parser.add_argument("--ema", type=float, default=0.0, help="of the weights, for every method")
    parser.add_argument("--clip", type=float, default=None, help="of the gradient's norm, for every method")
    parser.add_argument("--distill", default="0.5", help="weights of the dense network's logits")
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--block-distill", type=float, default=0.0, help="weight of block outputs, ours only")
    parser.add_argument("--share", type=float, default=0.4, help="of the steps that learn masks")
    parser.add_argument("--start", default="taylor", help="initial scores of ours")
    parser.add_argument("--price", type=int, default=1, help="0: initial scores that know no cost")
    parser.add_argument("--logit-scale", type=float, default=100.0)
    parser.add_argument("--ramp", type=float, default=0.5)
    parser.add_argument("--min-keep", type=float, default=MIN_KEEP)
    parser.add_argument("--refit", type=int, default=1, help="0: no least squares at the cut")
    parser.add_argument("--ridge", type=float, default=0.1)
    parser.add_argument("--restart", type=int, default=0, help="1: cut the base, not what the masks left")
    parser.add_argument("--mask-rate", type=float, default=None)
    parser.add_argument("--score-rate", type=float, default=None)
    parser.add_argument("--precision", default="bf16", help="of training; scores are read in float32")
    parser.add_argument("--images", type=int, help="of hold-out and test set, where all take too long")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--explore", action="store_true", help="do not read the test set")
    parser.add_argument("--out", help="instead of results/accuracy.jsonl")
    parser.add_argument("--table", action="store_true", help="print the table of the rows that are there")
    return parser


def main() -> None:
    options = parser_of_options(__doc__).parse_args()
    torch.set_num_threads(options.threads)
    if options.table:
        print("\n".join(tables(EXPERIMENTS["accuracy"].read(Path(options.out) if options.out else None))))
    else:
        run_table(options)


if __name__ == "__main__":
    main()
