"""Tasks that are no classification of images: at a latency budget, one-shot cut and learned cut. One command.

    python -m benchmarks.tasks --cifar10 DIR                # composes the data, trains, some 5 minutes a row
    python -m benchmarks.tasks --cifar10 DIR --only words   # segmentation words tokens pictures detection

The data are composed (`benchmarks.composed`), not collected: clothes placed on photographs, words spoken by
espeak-ng, the names in Python's own library, photographs made smaller. Each network is trained from random
weights (the base); from it, with the same further steps, batches and loss: the dense control; the network
that is cut at once by its weights and then trained; the one whose masks are learned in the first two fifths;
and the one that a calibration decides on before all steps tune it (`--start calibration`: the usual recipe).
Latency is as the profile of a Raspberry Pi 4 predicts it; only channels go, no branches. The hold-out
chooses, the test set is read once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import task_networks as networks
from benchmarks.common.two_ways import Trial
from benchmarks.composed import code_tokens, scenes, small_pictures, words
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.training import DataSource, Recipe, load_data

TASKS = EXPERIMENTS["tasks"]
DEVICE, LATENCY = "rpi4-ncnn-fp32-1t", "60%"


@dataclass(frozen=True)
class Subject:
    """One row: how its data is made below a folder and read, its network, and how it is trained.

    `base` and `steps` count optimiser steps, before and after the cut.
    """

    data: Callable[[Path, str], str]
    network: Callable[[DataSource], tuple[nn.Module, Any]]
    size: int | None = None
    base: int = 400
    steps: int = 200
    batch_size: int = 32
    recipe: dict[str, Any] = field(default_factory=dict)
    part: str | None = None


def scenes_in(folder: Path, cifar10: str) -> Path:
    place = folder / "scenes"
    if not (place / "data.yaml").is_file():
        scenes.write(place, cifar10, {"train": 1600, "val": 400, "test": 400})
    return place


def _masks(folder: Path, cifar10: str) -> str:
    return f"segfolder:{scenes_in(folder, cifar10)}"


def _boxes(folder: Path, cifar10: str) -> str:
    place = scenes_in(folder, cifar10)
    return "coco:" + ",".join(f"{place}/images/{split},{place}/{split}.json" for split in ("train", "test"))


def _words(folder: Path, cifar10: str) -> str:
    if not (folder / "words" / "test" / words.WORDS[-1]).is_dir():
        words.write(folder / "words", {"train": 200, "val": 50, "test": 50})
    return f"wavfolder:{folder / 'words'},mels=10"


def _tokens(folder: Path, cifar10: str) -> str:
    if not (folder / "tokens" / "dataset_dict.json").is_file():
        code_tokens.write(folder / "tokens", 4000, 800)
    return f"hf:{folder / 'tokens'}"


def _pictures(folder: Path, cifar10: str) -> str:
    if not (folder / "small.npz").is_file():
        small_pictures.write(folder / "small.npz", cifar10, 8000, 1000)
    return f"npz:{folder / 'small.npz'}"


_ADAM = {
    "optimizer": "adamw",
    "base_learning_rate": 2e-3,
    "mask_learning_rate": 1e-3,
    "tune_learning_rate": 1e-3,
}
SUBJECTS = {
    "segmentation": Subject(_masks, networks.unet, 64, 300, 100, 16, _ADAM),
    "segmentation-lraspp": Subject(_masks, networks.lraspp, 64, 300, 100, 16, _ADAM),
    "detection": Subject(_boxes, networks.ssdlite, 128, 1000, 200, 16, _ADAM, part="backbone"),
    "words": Subject(_words, networks.dscnn, None, 300, 150, 64, _ADAM),
    "tokens": Subject(_tokens, networks.encoder, None, 300, 120, 16, _ADAM),
    "pictures": Subject(_pictures, networks.super_resolution, None, 400, 200, 32, _ADAM),
}


def run(name: str, folder: Path, cifar10: str, seed: int, masks: bool) -> dict[str, Any]:
    """Return the row of one subject; what it wrote lies in `folder`, and a stopped run goes on from there."""
    subject = SUBJECTS[name]
    data = load_data(subject.data(folder, cifar10), subject.size, workers=0)
    torch.manual_seed(seed)
    model, example = subject.network(data)
    recipe = Recipe(batch_size=subject.batch_size, **subject.recipe)
    trial = Trial(
        model, example, data, recipe, subject.base, subject.steps, DEVICE, LATENCY,
        folder / "runs" / f"{name}-{seed}", seed=seed, part=subject.part, masks=masks,
    )  # fmt: skip
    about = (subject.network.__doc__ or "").strip().split("\n")[0]
    return {"task": name, "network": about} | trial.run()[1]


def whole_page() -> str:
    """Return the page of the rows that are there; of several runs of one task the last."""
    about = (__doc__ or "").split("\n\n", 1)[1].strip("\n")
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in TASKS.read():
        found = rows.get((row["task"], row["seed"]), {})
        if found.get("steps") != row["steps"]:
            found = {}
        if row.get("masks", True):
            rows[row["task"], row["seed"]] = found | row
        else:  # its base, control and one-shot are made anew by the same steps: shown where no other run did
            calibrated = {key: value for key, value in row.items() if key != "pruned"}
            rows[row["task"], row["seed"]] = calibrated | found | {"calibrated": row["pruned"]}
    lines = [
        "# Tasks that are no classification of images",
        "",
        *about.splitlines(),
        "",
        f"Budget: {LATENCY} of the dense latency on {DEVICE}. Steps are those before and after the cut.",
        "",
        "| task | network | judged by | base | dense control | cut at once, then trained | masks learned |"
        " calibrated | steps | test samples | CPU s | date, machine, commit |",
        "|" + "---|" * 12,
        *(_line(row) for row in rows.values()),
        "",
    ]
    if missing := [name for name in SUBJECTS if name not in {task for task, _ in rows}]:
        lines += [f"Not run yet: {', '.join(missing)}.", ""]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    said = row["report"]
    factor, unit = (100.0, " %") if said.get("unit") == "%" else (1.0, f" {said.get('unit', '')}".rstrip())
    ways = ("base", "control", "one_shot", "pruned", "calibrated")
    values = [f"{factor * row[key]:.2f}{unit}" if key in row else "not run" for key in ways]
    cells = [
        row["task"] if row["seed"] == 0 else f"{row['task']}, seed {row['seed']}",
        row["network"].rstrip("."),
        said["metric"],
        *values,
        " + ".join(map(str, row["steps"])),
        row["n_test"],
        sum(row["cpu_seconds"].values()),
        f"{row['date']}, {row['machine']}, {row['commit']}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", required=True, help="the folder of CIFAR-10")
    parser.add_argument("--folder", type=Path, default=Path("runs/tasks"), help="where the data is composed")
    parser.add_argument("--only", help="names, separated by commas", default=",".join(SUBJECTS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--start", choices=["masks", "calibration"], default="masks", help="what decides")
    args = parser.parse_args()
    for name in args.only.split(","):
        for seed in map(int, args.seeds.split(",")):
            row = run(name, args.folder, args.cifar10, seed, args.start == "masks")
            TASKS.append(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
