"""A small depthwise network on a microcontroller: accuracy under a RAM and a flash budget, ours and others.

    python -m benchmarks.accuracy.mcu --data fashion-mnist    # Debian: apt install dataset-fashion-mnist

MLPerf Tiny's visual-wake-words network (MobileNetV1, width 0.25) at 28x28 learns Fashion-MNIST, and is then
cut to each `--budgets` pair (RAM,flash) of the STM32L4R5's profile. All get the same steps after the base,
the same batches' distribution, augmentation, loss (distilled from the base) and hold-out. Methods:

    ours       masks learned under both budgets at once, through the product's own training
    uniform    the same share of every group, the largest channels by L2, as large as both budgets allow
    scratch    the network of `uniform` from random weights, for the base's steps and all the others' together
    tp         Torch-Pruning's best of {L2, Taylor, group norm} x {global, local}, as large as they allow
    control    dense, the same training

Learning rates (and `tp`'s setting) are chosen for every method and budget with seed 0 on held-out training
images and kept for the other seeds. The test set is read once a row, for what was chosen. Rows that are in
the results already are not run again; `--table` writes the page from them.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.accuracy.mcu_page import METHODS, Row, page
from benchmarks.accuracy.peers import PEER_SETTINGS, base_in_file, bisect, prune_with_peer, same_share
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.task import Task
from dtp_edge.surgery import Compact, compact, refit
from dtp_edge.training import (
    Recipe,
    evaluate,
    fine_tune,
    load_data,
    open_session,
    recalibrate,
    run_training,
    train_base,
    with_seed,
)
from dtp_edge.transport import Budget, MaskLearner, initial_scores
from dtp_edge.zoo.mobilenet import MobileNetV1

MCU = EXPERIMENTS["mcu_accuracy"]


class Bench:
    """One base network, the device, the data."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data = load_data(options.data)
        some = self.data.holdout.subset(torch.arange(100))  # in place of the test set, which no run may see
        self.blind = dataclasses.replace(self.data, test=some)
        self.profile = load_profile(options.device)
        self.x = torch.zeros(1, *self.data.input_shape)
        self.epoch = len(self.data.train) // options.batch_size
        torch.manual_seed(0)
        self.model = MobileNetV1(
            self.data.num_classes, self.data.input_shape[0], width=options.width, first_stride=1
        )
        self._base()
        self.dense = self.costs(self.model)

    def _base(self) -> None:
        def train() -> None:
            recipe = dataclasses.replace(self.recipe(0, 0.1), base_epochs=self.options.base_epochs)
            train_base(self.model, open_session(self.blind, recipe))

        def score() -> dict[str, float]:
            return {s: evaluate(self.model, self.data.split(s)) for s in ("holdout", "test")}

        self.base = base_in_file(self.model, Path(self.options.base), train, score)
        print(f"base: hold-out {self.base['holdout']:.4f}, test {self.base['test']:.4f}", flush=True)

    def recipe(self, seed: int, rate: float) -> Recipe:
        recipe = Recipe.for_epochs(self.options.steps / self.epoch, batch_size=self.options.batch_size)
        rates = {f"{phase}_learning_rate": rate for phase in ("base", "mask", "tune")}
        return with_seed(dataclasses.replace(recipe, channels_last=True, **rates), seed)

    def costs(self, module: nn.Module) -> dict[str, float]:
        """What the profile says of a network as it is."""
        network = trace_network(module, (self.x,))
        return NetworkCost(network.layers, self.profile).evaluate(
            network.layers.sizes(np.ones(network.n_atoms))
        )

    def fits(self, module: nn.Module, limits: dict[str, float]) -> bool:
        found = self.costs(module)
        return all(found[metric] <= limit for metric, limit in limits.items())

    def ours(self, budget: Budget, recipe: Recipe) -> nn.Module:
        model = copy.deepcopy(self.model)
        network = trace_network(model, (self.x,))
        task = Task.of(network, self.profile, budget)

        def make_learner(steps: int) -> MaskLearner:
            batches = itertools.islice(self.data.train.ordered(64), 4)
            options = {} if self.options.min_keep is None else {"min_keep": self.options.min_keep}
            return task.learner(steps, batches=batches, **options)

        cuts: list[Compact] = []

        def cut(keep: np.ndarray) -> nn.Module:
            cuts.append(compact(network, keep))
            return cuts[-1].module

        def fit(dense: nn.Module, images: torch.Tensor) -> None:
            refit(network, cuts[-1], dense.state_dict(), (images,), seed=recipe.seed)

        return run_training(
            model, self.blind, recipe, make_learner=make_learner, cut=cut, refit=fit, control=False
        ).module

    def tune(self, module: nn.Module, recipe: Recipe, epochs: float | None = None) -> nn.Module:
        """The others' training: all the steps that ours divides between masks and fine-tuning."""
        recalibrate(module, self.data, recipe.recalibrate_batches, recipe.batch_size, recipe.seed)
        teacher = copy.deepcopy(self.model).requires_grad_(False)
        total = recipe.mask_epochs + recipe.tune_epochs
        fine_tune(module, open_session(self.blind, recipe), teacher, epochs=epochs or total)
        return module

    def uniform(self, limits: dict[str, float]) -> nn.Module:
        network = trace_network(copy.deepcopy(self.model), (self.x,))
        scores = initial_scores(network, "l2")

        def cut(share: float) -> nn.Module:
            return compact(network, same_share(network, scores, share)).module

        return cut(bisect(lambda share: self.fits(cut(share), limits)))

    def peer(self, setting: str, limits: dict[str, float], seed: int) -> nn.Module:
        kind, scope = setting.split("-")
        batches = list(itertools.islice(self.data.train.shuffled(128, seed=seed, epoch=0), 8))

        def cut(share: float) -> nn.Module:
            model = copy.deepcopy(self.model)
            return prune_with_peer(model, self.x, kind, scope == "global", 1 - share, batches)

        return cut(bisect(lambda share: self.fits(cut(share), limits), steps=8))

    def scratch(self, limits: dict[str, float], recipe: Recipe) -> nn.Module:
        module = self.uniform(limits)
        for part in module.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
        epochs = self.options.base_epochs + recipe.mask_epochs + recipe.tune_epochs
        return self.tune(module, recipe, epochs)

    def train(self, method: str, setting: str, budget: Budget, seed: int, rate: float) -> nn.Module:
        recipe = self.recipe(seed, rate)
        limits = budget.limits(self.dense)
        if method == "ours":
            return self.ours(budget, recipe)
        if method == "scratch":
            return self.scratch(limits, recipe)
        cut: dict[str, Callable[[], nn.Module]] = {
            "uniform": lambda: self.uniform(limits),
            "tp": lambda: self.peer(setting, limits, seed),
            "control": lambda: copy.deepcopy(self.model),
        }
        return self.tune(cut[method](), recipe)

    def row(self, method: str, pair: str, seed: int, tries: list[tuple[str, float]]) -> Row:
        """Train all tries, choose on the hold-out, read the test set once."""
        began, cpu = time.time(), time.process_time()
        ram, flash = pair.split(",")
        budget = Budget(ram=ram, flash=flash)
        limits = budget.limits(self.dense)
        if method != "control" and all(self.dense[m] <= v for m, v in limits.items()):
            tries, method = [("fits", 0.0)], "dense"
        found: list[tuple[float, str, float, nn.Module]] = []
        for setting, rate in tries:
            if rate != tries[0][1] and setting != max(found, key=lambda f: f[0])[1]:
                continue  # all settings compete at the first rate, only the best of them at the others
            module = (
                self.model if method == "dense" else self.train(method, setting, budget, seed, rate).eval()
            )
            found.append((evaluate(module, self.data.holdout), setting, rate, module))
            print(f"  {pair} {method} {setting} {rate} seed {seed}: {found[-1][0]:.4f}", flush=True)
        holdout, setting, rate, module = max(found, key=lambda f: f[0])
        costs = self.costs(module)
        assert method == "control" or all(costs[m] <= v for m, v in limits.items()), (costs, limits)
        return {
            "budget": pair,
            "method": method,
            "setting": setting,
            "seed": seed,
            "rate": rate,
            "tried": {f"{s} {r}": h for h, s, r, _ in found},
            "holdout": holdout,
            "test": evaluate(module, self.data.test),
            "costs": costs,
            "limits": limits,
            "dense": self.dense,
            "base": self.base,
            "run": self.settings(),
            "min_keep": self.options.min_keep,
            "seconds": round(time.time() - began),
            "cpu_seconds": round(time.process_time() - cpu),
        }

    def settings(self) -> Row:
        names = ("device", "width", "steps", "base_epochs", "batch_size")
        return {n: getattr(self.options, n) for n in names}


def tries_of(method: str, rates: list[float]) -> list[tuple[str, float]]:
    """Settings and rates to choose from, in the order in which `Bench.row` tries them."""
    return [(s, r) for r in rates for s in (PEER_SETTINGS if method == "tp" else ["-"])]


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    pairs = options.budgets.split()
    for seed in map(int, options.seeds.split(",")):
        for method in options.methods.split(","):
            for pair in pairs if method != "control" else pairs[:1]:
                yield method, pair, seed


def run(options: argparse.Namespace) -> None:
    bench = Bench(options)
    out = Path(options.out)
    rows = MCU.read(out)
    rates = [float(r) for r in options.rates.split(",")]
    for method, pair, seed in wanted(options):
        same = [r for r in rows if (r["budget"], r["run"]) == (pair, bench.settings())]
        same = [r for r in same if r["method"] in (method, "dense")]
        if any(r["seed"] == seed or r["method"] == "dense" for r in same):
            continue
        first = next((r for r in same if r["seed"] == 0), None)
        tries = [(first["setting"], first["rate"])] if first else tries_of(method, rates)
        row = bench.row(method, pair, seed, tries)
        rows.append(row)
        MCU.append(row, out)
        print(f"{pair:15} {method:8} seed {seed} test {row['test']:.4f}  {row['seconds']} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--device", default="stm32l4r5-cubeai-int8")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--base", default="runs/mcu-base.safetensors", help="where the base is kept")
    parser.add_argument("--base-epochs", type=float, default=4.0)
    parser.add_argument("--budgets", default="640KiB,2MiB 50%,35% 35%,15%", help="RAM,flash pairs")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps after the base")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rates", default="0.05,0.02", help="learning rates, chosen on the hold-out")
    parser.add_argument("--min-keep", type=float, help="of ours: least share of a group [the product's]")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default=str(MCU.path))
    parser.add_argument("--table", action="store_true", help="write the page of the rows that are there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.table:
        run(options)
    text = page(MCU.read(Path(options.out)))
    Path(options.out).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
