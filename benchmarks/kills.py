"""kill -9 of a run at random moments, resumed: does it end in the widths and the bytes of the run that lived?

    python -m benchmarks.kills --moments 100 [--seed 0] [--total-s 600]

A small network learns scikit-learn's digits and is cut to half its MACs by `prune-for-device`, once whole,
then `--moments` times killed at a moment drawn between its start and its end, and started again (with
`--resume` where there is a checkpoint) until it is done. Equal means: model.onnx and model.safetensors byte
for byte, the groups and the accuracies of report.json. Results: results/kills.jsonl, a row a moment; moments
that have a row of this seed are not tried again, so that the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.context import ForkProcess as Process
from pathlib import Path

import torch
from torch import nn

from benchmarks.experiments import EXPERIMENTS
from dtp_edge.cli import prune_main
from dtp_edge.graph import trace_network
from dtp_edge.onnx import export_onnx

KILLS = EXPERIMENTS["kills"]
FORK = multiprocessing.get_context("fork")
HEAVY = (
    "dtp_edge.run.pipeline",
    "dtp_edge.training",
    "dtp_edge.report.write",
    "accelerate",
    "sklearn.datasets",
)
NETWORK = """
from torch import nn
import torch


def build():
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1)]
    parts += [nn.Conv2d(16, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU()]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)]
    return nn.Sequential(*parts), torch.zeros(1, 1, 8, 8)
"""


def run(folder: str, words: list[str]) -> None:
    """The command in a process of its own."""
    os.chdir(folder)
    sys.argv[:] = ["prune-for-device", *words]
    prune_main()


def warm_up() -> None:
    """Import and set up what every run needs, so that children inherit it; nothing here starts a thread."""
    for name in HEAVY:
        importlib.import_module(name)
    module, x = (
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval(),
        torch.zeros(1, 1, 8, 8),
    )
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(trace_network(module, x).graph_module, x, Path(folder, "model.onnx"))


def start(folder: Path, *more: str) -> Process:
    """Start the command in `folder`, which gets the network's file; what it imports is there already."""
    (folder / "net.py").write_text(NETWORK)
    words = ["net.py:build", "--data", "digits", "--device", "rpi4-ncnn-fp32-1t", "--macs", "50%", "-q"]
    words += ["--epochs", "2", "--set", "base_epochs=2", "--set", "batch_size=32", "--out", "run"]
    child = FORK.Process(target=run, args=(str(folder), [*words, *more]))
    child.start()
    return child


def code_of(child: Process) -> int | None:
    child.join()
    return child.exitcode


def result(folder: Path) -> dict[str, object]:
    """What the run left: digests of its files, groups, accuracies."""
    run = folder / "run"
    report = json.loads((run / "report.json").read_text())
    digests = {
        n: hashlib.sha256((run / n).read_bytes()).hexdigest() for n in ("model.onnx", "model.safetensors")
    }
    return {"groups": report["groups"], "accuracy": report["accuracy"], **digests}


def killed(folder: Path, moment_s: float) -> str:
    """Kill the run `moment_s` after its start, resume it to its end; return what there was at the kill."""
    child = start(folder)
    child.join(moment_s)
    child.kill()  # SIGKILL; nothing where it has ended
    child.join()
    run = folder / "run"
    if (run / "report.json").exists():
        return "whole"
    begun = any((run / "checkpoint").glob("*.safetensors"))
    code = code_of(start(folder, *(["--resume"] if begun else [])))
    return ("checkpoint" if begun else "nothing") if code == 0 else f"exit {code}"


def known(seed: int) -> set[int]:
    """The moments of this seed that have a row."""
    return {row["moment"] for row in KILLS.read() if row.get("seed") == seed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--total-s", type=float, default=1e9, help="begin no further moment after this long")
    given = parser.parse_args()
    warm_up()
    rng, began = random.Random(given.seed), time.monotonic()
    shares = [rng.random() for _ in range(given.moments)]
    done = known(given.seed)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name, "whole")
        whole.mkdir()
        if code_of(start(whole)) != 0:
            raise SystemExit("the run that nobody kills failed")
        length_s, expected = time.monotonic() - began, result(whole)
        for moment, share in enumerate(shares):
            if moment in done or time.monotonic() - began > given.total_s:
                continue
            folder = Path(name, str(moment))
            folder.mkdir()
            there = killed(folder, share * length_s)
            same = not there.startswith("exit") and result(folder) == expected
            row = {"seed": given.seed, "moment": moment, "at": round(share, 3), "there": there, "equal": same}
            KILLS.append(row)
            print(f"{moment}: killed at {share:.2f} of the run, left {there}, equal: {same}", flush=True)
    rows = [row for row in KILLS.read() if row.get("seed") == given.seed]
    left = dict(Counter(row["there"] for row in rows))
    print(f"{sum(row['equal'] for row in rows)} of {len(rows)} equal; left at the kill: {left}")


if __name__ == "__main__":
    main()
