"""What each part of the transport is worth: one table, one command.

    python -m benchmarks.transport_ablation     # digits 8x8, a small residual CNN, 5 seeds
    python -m benchmarks.transport_ablation --cifar DIR --steps 234 --seeds 1      # ResNet-20

Every row starts from the same base network, learns masks for a share of the steps, is cut, and is tuned for
the rest with a fresh learning-rate schedule. Accuracy is that of held-out training data, never the test set.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common.experiment import RESULTS
from benchmarks.common.page import between
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.graph import trace_network
from dtp_edge.measure import load_profile
from dtp_edge.run.task import Task
from dtp_edge.transport import Budget, MaskLearner, initial_scores
from dtp_edge.transport.learner import SPREAD

ABLATION = EXPERIMENTS["transport_ablation"]


class FixedEpsilon(MaskLearner):
    """Without the Bregman term: no memory of past scores, and epsilon at its last value from the start."""

    def slope_after(self, steps: int) -> float:
        return 2.0 * self.total_steps / self.epsilon

    def history(self) -> Tensor:
        return torch.zeros_like(self.log_odds)

    def averaged_scores(self) -> np.ndarray:
        return self.scores.detach().double().cpu().numpy()


class ScheduledEpsilon(FixedEpsilon):
    """The same, and epsilon falls as 1 / step."""

    def slope_after(self, steps: int) -> float:
        return 2.0 * (steps + 1.0) / self.epsilon


@dataclass
class Case:
    """One row: how scores start, how they learn, how the plan is advanced."""

    name: str
    start: str = "taylor"
    learn: bool = True
    score_rate: float = 1.0
    share: float = 0.4
    kind: type[MaskLearner] = MaskLearner
    straight: float = MaskLearner.straight
    options: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("default"),
    Case("one Sinkhorn iteration a step", options={"dual": "single"}),
    Case("epsilon fixed at its last value", kind=FixedEpsilon),
    Case("epsilon scheduled, no memory", kind=ScheduledEpsilon),
    Case("scores not learned", learn=False),
    Case("one shot, all steps tune", learn=False, share=0.0),
    Case("start: log L2", start="l2"),
    Case("start: log L2, not learned", start="l2", learn=False),
    Case("start: L2 over layer mean", start="layer_l2"),
    Case("start: Taylor over cost", start="taylor/cost"),
    Case("start: uniform", start="uniform"),
    Case("logit scale 10", options={"logit_scale": 10.0}),
    Case("logit scale 40", options={"logit_scale": 40.0}),
    Case("logit scale 300", options={"logit_scale": 300.0}),
    Case("no falling budget", options={"ramp": 1e-6}),
    Case("budget falls to the end", options={"ramp": 1.0}),
    Case("no floor", options={"min_keep": 0.0}),
    Case("score rate x 0.1", score_rate=0.1),
    Case("score rate x 10", score_rate=10.0),
    Case("exact gradient (dies in hard masks)", straight=0.0),
    Case("straight-through gradient", straight=1.0),
    Case("share 0.2", share=0.2),
    Case("share 0.7", share=0.7),
]


class DigitNet(nn.Module):
    """A small residual network for 8 x 8 digits."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
            )

        self.stem = block(1, width)
        self.a = nn.Sequential(block(width, width), block(width, width))
        self.down = block(width, 2 * width, 2)
        self.b = nn.Sequential(block(2 * width, 2 * width), block(2 * width, 2 * width))
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.a(x)
        x = self.down(x)
        x = x + self.b(x)
        return self.head(x.mean((2, 3)))


@dataclass
class Problem:
    """Base network and data; `batches(seed)` never ends."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]]
    holdout: list[tuple[Tensor, Tensor]]
    rate: float
    decay: float


def digits(seed: int) -> Problem:
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.images, dtype=torch.float32)[:, None] / 8 - 1
    y = torch.tensor(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1234))
    train, holdout = order[:1000], order[1000:]

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            for part in train[torch.randperm(len(train), generator=generator)].split(64)[:-1]:
                yield x[part], y[part]

    torch.manual_seed(seed)
    model = DigitNet()
    tune(model, batches(seed), 150, 0.1, 5e-4)
    return Problem(model, (x[:2],), batches, [(x[holdout], y[holdout])], 0.05, 5e-4)


def cifar(folder: str, images: int) -> Problem:
    from dtp_edge.training import load_data
    from dtp_edge.zoo import resolve_model

    model, inputs, _ = resolve_model("resnet20", weights=f"{folder}/resnet20.safetensors")
    data = load_data(f"cifar10:{folder}")

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            yield from data.train.shuffled(128, seed=seed, epoch=epoch)
            epoch += 1

    holdout: list[tuple[Tensor, Tensor]] = []
    for x, y in data.holdout.ordered(500):
        if sum(len(b) for _, b in holdout) < images:
            holdout.append((x, y))
    return Problem(model, inputs, batches, holdout, 0.05, 5e-4)


def tune(
    module: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    steps: int,
    rate: float,
    decay: float,
    score_rate: float | None = None,
) -> None:
    """SGD with a cosine schedule; a learner's scores have their own constant rate and no decay."""
    if isinstance(module, MaskLearner):
        groups = module.parameter_groups(rate, decay, 0.0 if score_rate is None else score_rate)
    else:
        groups = [{"params": list(module.parameters()), "weight_decay": decay}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    module.train()
    for step in range(steps):
        warm = min(1.0, (step + 1) / (0.05 * steps + 1))
        optimizer.param_groups[0]["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        x, y = next(batches)
        F.cross_entropy(module(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        if isinstance(module, MaskLearner):
            module.step()


@torch.no_grad()
def accuracy(module: nn.Module, holdout: list[tuple[Tensor, Tensor]]) -> float:
    module.eval()
    right = sum(int((module(x).argmax(1) == y).sum()) for x, y in holdout)
    return 100 * right / sum(len(y) for _, y in holdout)


def start_of(network: Any, cost: Any, task: Problem, method: str, seed: int) -> np.ndarray:
    batches = [b for _, b in zip(range(4), task.batches(seed), strict=False)]
    if method != "taylor/cost":
        return initial_scores(network, method, batches)
    ones = np.ones(network.n_atoms)
    per_atom = network.layers.sizes_vjp(ones, cost.gradient(network.layers.sizes(ones), "macs"))
    importance = initial_scores(network, "taylor", batches)
    return importance - np.log(per_atom)  # both logarithms; the learner standardises


def run(case: Case, task: Problem, budget: Budget, steps: int, seed: int) -> dict[str, float]:
    network = trace_network(copy.deepcopy(task.model), task.inputs)
    pruning = Task.of(network, load_profile("rpi4-ncnn-fp32-1t"), budget)
    torch.manual_seed(seed)
    scores = start_of(network, pruning.cost, task, case.start, seed)
    masked = max(1, round(case.share * steps))
    learner = case.kind(**pruning.learner_arguments(masked, scores=scores), **case.options)
    learner.straight = case.straight
    batches, soft = task.batches(seed), 0.0
    if case.share > 0:
        rate = task.rate * case.score_rate if case.learn else 0.0
        tune(learner, batches, masked - 1, task.rate, task.decay, rate)
        soft = learner.log()["softness"]
    while not learner.is_hard:
        learner.step()
    cut = accuracy(learner, task.holdout)
    tune(learner, batches, steps - masked if case.share else steps, task.rate, task.decay)
    log = learner.log()
    moved = float(np.abs(learner.averaged_scores() - SPREAD * _unit(scores)).mean() / SPREAD)
    return {
        "cut": cut,
        "tuned": accuracy(learner, task.holdout),
        "hardness": soft,
        "used": log["budget_used"],
        "lowest": log["lowest_width"],
        "moved": moved,
    }


def _unit(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean()) / (scores.std() or 1.0)


HEAD = f"{'':36} {'at the cut':>10} {'tuned':>14} {'soft':>6} {'used':>6} {'lowest':>6} {'moved':>6}"


def line(row: dict[str, Any]) -> str:
    """One case as the table has it."""
    return (
        f"{row['case']:36} {row['cut']:10.2f} {row['tuned']:8.2f} ±{row['spread']:4.2f} "
        f"{row['hardness']:6.2f} {row['used']:6.3f} {row['lowest']:6.2f} {row['moved']:6.2f}"
    )


def whole_page() -> str:
    """The page: its table from the committed rows, the text around it as it stands."""
    rows = json.loads(ABLATION.path.read_text())["rows"]
    text = (RESULTS / ABLATION.page).read_text(encoding="utf-8")
    return between(text, f"{HEAD}\n", "\n\n", "\n".join(line(row) for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar", metavar="DIR", help="CIFAR-10 copy with resnet20.safetensors beside it")
    parser.add_argument("--images", type=int, default=2000, help="held-out images to score on")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--macs", default="6%")
    parser.add_argument(
        "--only", nargs="*", default=[""], help="run the rows whose name contains one of these"
    )
    parser.add_argument("--out", type=Path, default=ABLATION.path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tasks = (
        [cifar(options.cifar, options.images)] if options.cifar else [digits(s) for s in range(options.seeds)]
    )
    dense = [accuracy(copy.deepcopy(t.model), t.holdout) for t in tasks]
    base = statistics.mean(dense)
    print(f"MACs {options.macs}, {options.steps} steps, {options.seeds} seeds, dense {base:.2f}")
    print(HEAD)
    rows: list[dict[str, Any]] = []
    for case in CASES:
        if not any(part in case.name for part in options.only):
            continue
        began = time.time()
        runs = [
            run(case, tasks[s % len(tasks)], Budget(macs=options.macs), options.steps, s)
            for s in range(options.seeds)
        ]
        mean = {k: statistics.mean(r[k] for r in runs) for k in runs[0]}
        spread = statistics.stdev(r["tuned"] for r in runs) if len(runs) > 1 else 0.0
        rows.append(
            {"case": case.name, **mean, "spread": spread, "runs": runs, "seconds": time.time() - began}
        )
        print(line(rows[-1]), flush=True)
    settings = {k: str(v) for k, v in vars(options).items() if k != "out"}
    ABLATION.document({"settings": settings, "dense": dense, "rows": rows}, options.out)


if __name__ == "__main__":
    main()
