"""The paper's networks at its ratios: ResNet-56 at 2.13x and 2.57x fewer MACs, VGG-19 at 8.9x, MobileNetV2.

    python -m benchmarks.accuracy.full resnet56 --data cifar10:DIR --weights DIR/resnet56.safetensors
    python -m benchmarks.accuracy.full resnet56 --data cifar10:DIR --weights ... --epochs 0.2   # reduced

A full run is 120 epochs after the base, three seeds: hours on a GPU (accelerate takes it where there is one;
`ACCELERATE_USE_CPU=true` stays on the CPU), days without. With fewer than 100 epochs every row is marked
"reduced": it shows that the command works, not what the method can do. VGG-19 and MobileNetV2 have no
published weights for this data; without `--weights` they are trained first, for `--base-epochs`.

Methods, recipe and choice on the hold-out are those of `at_budget.py`, whose options may follow as well.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.at_budget import parser_of_options, run_table
from benchmarks.accuracy.page import about_origin, label
from benchmarks.experiments import EXPERIMENTS

FULL = EXPERIMENTS["accuracy_full"]
TRAIN_IMAGES = 45_000  # of CIFAR-10's 50,000; the rest is the hold-out
FULL_EPOCHS = 100


@dataclass(frozen=True)
class Paper:
    """A network of the paper's tables: MACs ratios, and the base where published weights are given or not."""

    ratios: tuple[float, ...]
    tune_base_epochs: float
    new_base_epochs: float


PAPERS = {
    "resnet56": Paper((2.13, 2.57), 3, 200),
    "vgg19": Paper((8.9,), 3, 160),
    "mobilenetv2_cifar": Paper((2.0,), 3, 200),
}


def main() -> None:
    parser = parser_of_options(__doc__)
    parser.add_argument("network", choices=PAPERS)
    parser.add_argument("--epochs", type=float, default=120, help="after the base, for every method")
    parser.add_argument("--base-epochs", type=float, help="of the base, with or without given weights")
    methods = "ours-macs,ours-macs-inside,tp-group-global,control"
    parser.set_defaults(out=str(FULL.path), methods=methods, seeds="0,1,2")
    options = parser.parse_args()
    paper, per_epoch = PAPERS[options.network], TRAIN_IMAGES // options.batch_size
    if "--macs" not in sys.argv:
        options.macs = ",".join(f"{100 / ratio:.2f}%" for ratio in paper.ratios)
    if options.base_epochs is None:
        options.base_epochs = paper.tune_base_epochs if options.weights else paper.new_base_epochs
    if not options.weights and "--base-rate" not in sys.argv:
        options.base_rate = 0.1
    options.model = options.network
    options.steps = round(options.epochs * per_epoch)
    options.base_steps = round(options.base_epochs * per_epoch)
    options.reduced = options.epochs < FULL_EPOCHS
    if "--base" not in sys.argv:
        options.base = f"runs/accuracy-base-{options.network}-{options.base_steps}.safetensors"
    torch.set_num_threads(options.threads)
    if not options.table:
        run_table(options)
    text = page(FULL.read(Path(options.out)))
    Path(options.out).with_suffix(".md").write_text(text)
    print(text)


def whole_page() -> str:
    """The page of the committed rows."""
    return page(FULL.read())


def page(rows: list[dict[str, Any]]) -> str:
    """A table a network, budget and length; the control stands under every budget of its network."""
    lines = ["# The paper's networks", ""]
    lines += ["Written by `python -m benchmarks.accuracy.full`, CIFAR-10 (JPEG copy).", ""]
    lines += [*about_origin(rows), ""]
    blocks: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        s = row["settings"]
        key = (
            s["model"],
            s["macs"],
            s["steps"],
            s["base_steps"],
            s["distill"],
            s["reduced"],
            s.get("images"),
        )
        blocks.setdefault(key, []).append(row)
    for (model, macs, steps, base_steps, distill, reduced, images), members in blocks.items():
        last = members[-1]
        epochs, base_epochs = last["settings"]["epochs"], last["settings"]["base_epochs"]
        mark = f"REDUCED: {steps} steps, not {FULL_EPOCHS} epochs" if reduced else f"{epochs:g} epochs"
        part = f"Scored on the first {images} images only. " if images else ""
        versions = f"torch {last['torch']}, torch-pruning {last['torch-pruning']}"
        lines += [
            f"## {model}, MACs {macs}, {mark}, distillation {distill}",
            "",
            f"{part}Base: {base_steps} steps ({base_epochs:.2g} epochs), test {100 * last['base']:.2f}. "
            f"{last['date']}, {last['machine']}, {versions}.",
            "",
            "| method | MACs | at the cut (hold-out) | test % | spread | above its base | seeds |",
            f"|{'---|' * 7}",
        ]
        for method in dict.fromkeys(label(r) for r in members):
            found = [r for r in members if label(r) == method]
            lines.append(_line(method, found, last["base"]))
        lines.append("")
    return "\n".join(lines)


def _line(method: str, found: list[dict[str, Any]], base: float) -> str:
    tests = [100 * r["test"] for r in found]
    mean = statistics.mean(tests)
    spread = f"{statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
    cut = 100 * statistics.mean(r["at_cut_holdout"] for r in found)
    ratio = statistics.mean(r["macs_ratio"] for r in found)
    cells = [method, f"{ratio:.3f}", f"{cut:.1f}", f"{mean:.2f}", spread, f"{mean - 100 * base:+.2f}"]
    return f"| {' | '.join([*cells, str(len(tests))])} |"


if __name__ == "__main__":
    main()
