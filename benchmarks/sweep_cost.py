r"""A sweep against separate runs: what sharing saves, and that nothing else changes.

    python -m benchmarks.sweep_cost --data cifar10:DIR \
        --weights benchmarks/results/accuracy_base.safetensors \
        --separate 3 --out runs/cost --within 600 --minutes 10     # again and again, until it says its ratio

ResNet-20 for three devices and four latencies on a part of CIFAR-10 at short schedules, once as a sweep of
twelve cells and once as separate runs of `prune_for_device`, each in a process of its own on one thread. With
`--separate` below 12 only so many of the runs are made, spread over the grid, and the rest is extrapolated.
Results: results/sweep_cost.jsonl and .md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common.origin import ROOT
from benchmarks.experiments import EXPERIMENTS

COST = EXPERIMENTS["sweep_cost"]
DEVICES = ("rpi4-ncnn-fp32-1t", "rpi5-ncnn-fp16-1t", "stm32h747-cubeai-int8")
LATENCIES = ("70%", "50%", "35%", "25%")
TRAIN, TEST, BATCH, SEED = 2_000, 1_000, 64, 0
MASK_STEPS, TUNE_STEPS = 10, 14
OLD_STEPS = 12, 18  # of rows that do not say theirs


def problem(options: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """Return network, inputs, data and recipe: the first images of CIFAR-10, 24 steps in all."""
    from dataclasses import replace

    import torch

    from dtp_edge.training import Recipe, load_data
    from dtp_edge.zoo import resolve_model

    data = load_data(options.data)
    first = {"train": TRAIN, "holdout": TEST // 2, "test": TEST}
    parts = {name: data.split(name).subset(torch.arange(n)) for name, n in first.items()}  # type: ignore[attr-defined]
    data = replace(data, name=f"{TRAIN} images of {data.name}", **parts)
    model, inputs, _ = resolve_model("resnet20", options.weights, data.num_classes, data.input_shape)
    epoch = TRAIN // BATCH
    recipe = Recipe(batch_size=BATCH, mask_epochs=MASK_STEPS / epoch, tune_epochs=TUNE_STEPS / epoch)
    return model, inputs, data, recipe


def as_sweep(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    from dtp_edge import Budget
    from dtp_edge.sweeps.driver import sweep

    model, inputs, data, recipe = problem(options)
    budgets = [Budget(latency=latency) for latency in LATENCIES]
    done = sweep(
        model, inputs, devices=DEVICES, budgets=budgets, out=folder, data=data, recipe=recipe, seed=SEED,
        cores=1, depth=depth_of(options), resume=True, within_seconds=options.within,
    )  # fmt: skip
    return [
        {
            "device": row["device"],
            "latency": LATENCIES[row["level"]],
            "state": row["state"],
            **(found_in(folder / "cells" / row["id"]) if row["state"] == "done" else {}),
        }
        for row in done.rows
    ]


def separately(options: argparse.Namespace, device: str, latency: str, folder: Path) -> list[dict[str, Any]]:
    import torch

    import dtp_edge as dtp

    torch.set_num_threads(1)
    model, inputs, data, recipe = problem(options)
    dtp.prune_for_device(
        model, inputs, device=device, budget=dtp.Budget(latency=latency), data=data, recipe=recipe,
        out=folder, seed=SEED, depth=depth_of(options),
    )  # fmt: skip
    return [{"device": device, "latency": latency, **found_in(folder)}]


def depth_of(options: argparse.Namespace) -> bool | None:
    return False if options.no_depth else None


def found_in(folder: Path) -> dict[str, Any]:
    from dtp_edge.report import read_report

    report = read_report(folder)
    accuracy = report["accuracy"]
    return {
        "accuracy": accuracy["pruned"],
        "control": accuracy["control"],
        "base": accuracy["base"],
        "n_test": accuracy["n_test"],
        "widths": [group["kept"] for group in report["groups"]],
        "onnx_sha256": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()[:16],
    }


def child(arguments: list[str]) -> tuple[float, list[dict[str, Any]]]:
    """Run this module anew; return its CPU seconds and what it found."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "benchmarks.sweep_cost", *sys.argv[1:], *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, json.loads(done.stdout.splitlines()[-1])


def chosen(count: int) -> list[tuple[str, str]]:
    """Return that many cells, spread over devices and latencies."""
    turns = [(i, (i + j) % len(LATENCIES)) for j in range(len(LATENCIES)) for i in range(len(DEVICES))]
    return [(DEVICES[i], LATENCIES[j]) for i, j in turns[:count]]


def whole_page() -> str:
    rows = COST.read()
    last = [rows[-1][key] for key in ("run", "commit")]
    rows = [row for row in rows if [row["run"], row["commit"]] == last]
    cells = [row for row in rows if row["kind"] == "cell" and row["state"] == "done"]
    apart = [row for row in rows if row["kind"] == "separate"]
    total = next((row for row in rows if row["kind"] == "total"), None)
    both = [(row, next(c for c in cells if key(c) == key(row))) for row in apart]
    same = sum(a["onnx_sha256"] == b["onnx_sha256"] for a, b in both)
    widths = sum(a["widths"] == b["widths"] for a, b in both)
    where = rows[-1]
    mask_steps, tune_steps = where.get("steps", OLD_STEPS)
    if total is None:
        cost = "- the run was stopped before it added up its times: no ratio of the two"
    else:
        cost = (
            f"- the sweep took {total['sweep_cpu_s']:.0f} s of CPU{_parts(total)}; "
            f"{len(apart)} separate runs took "
            f"{total['separate_cpu_s']:.0f} s, so that all {len(cells)} take "
            f"{total['all_separate_cpu_s']:.0f} s"
            f"{'' if len(apart) == len(cells) else ' (extrapolated)'}: **{total['ratio']:.2f}** of it"
        )
    lines = [
        "# A sweep against separate runs",
        "",
        f"Written by `python -m benchmarks.sweep_cost`, {where['date']}, {where['machine']}, "
        f"torch {where['torch']}.",
        "",
        f"ResNet-20, {TRAIN} training and {TEST} test images of CIFAR-10, {mask_steps} steps of masks and "
        f"{tune_steps} of fine-tune, one thread; {len(cells)} cells; "
        + ("channels and branches may go." if where.get("depth") else "only channels may go, no branches."),
        "",
        cost,
        f"- of the {len(both)} cells that were run both ways {widths} have the same widths, and {same} the "
        "same `model.onnx`, bit for bit",
        "",
        "| device | latency | sweep | separate | control |",
        "|---|---|---|---|---|",
    ]
    alone = {key(row): row for row in apart}
    for row in cells:
        other = alone.get(key(row))
        apart_text = "" if other is None else f"{100 * other['accuracy']:.2f} %"
        lines.append(
            f"| {row['device']} | {row['latency']} | {100 * row['accuracy']:.2f} % | "
            f"{apart_text} | {100 * row['control']:.2f} % |"
        )
    return "\n".join([*lines, ""])


def _parts(total: dict[str, Any]) -> str:
    return "" if total["parts"] == 1 else f" in {total['parts']} parts, each resumed"


def key(row: dict[str, Any]) -> tuple[str, str]:
    return row["device"], row["latency"]


@dataclass
class Done:
    """How far the benchmark is, in a file beside the sweep, so that it goes on where it was stopped."""

    file: Path
    sweep_cpu_s: float = 0.0
    parts: int = 0
    cells: list[dict[str, Any]] = field(default_factory=list)
    separate: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Done:
        found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        return cls(file=file, **found)

    def write(self) -> None:
        kept = {k: v for k, v in asdict(self).items() if k != "file"}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(kept))

    @property
    def swept(self) -> bool:
        ended = ("done", "failed", "refused")
        return bool(self.cells) and all(row["state"] in ended for row in self.cells)


def go_on(options: argparse.Namespace, out: Path, apart: Path) -> Done:
    """Run the next parts until all is done, or `--minutes` are over."""
    done, until = Done.read(out.with_name(f"{out.name}.json")), time.monotonic() + 60 * options.minutes
    while not done.swept and time.monotonic() < until:
        cpu, done.cells = child(["--child", str(out)])
        done.sweep_cpu_s, done.parts = done.sweep_cpu_s + cpu, done.parts + 1
        done.write()
    for device, latency in chosen(options.separate)[len(done.separate) :]:
        if not done.swept or time.monotonic() > until:
            break
        cpu, found = child(["--child", f"{apart}/{device}-{latency}", device, latency])
        done.separate.append({"cpu_s": cpu, **found[0]})
        done.write()
    return done


def note(done: Done, run: str, depth: bool) -> None:
    """Write the rows of a benchmark that is through, and its page."""
    same = {"run": run, "steps": [MASK_STEPS, TUNE_STEPS], "depth": depth}
    for row in done.cells:
        COST.append({"kind": "cell", **same, **row})
    for row in done.separate:
        COST.append({"kind": "separate", **same, **row})
    spent = sum(row["cpu_s"] for row in done.separate)
    whole = spent * len(done.cells) / len(done.separate)
    COST.append(
        {"kind": "total", **same, "sweep_cpu_s": done.sweep_cpu_s, "separate_cpu_s": spent,
         "separate": len(done.separate), "parts": done.parts,
         "all_separate_cpu_s": whole, "ratio": done.sweep_cpu_s / whole}
    )  # fmt: skip
    (ROOT / "benchmarks" / "results" / COST.page).write_text(whole_page())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--separate", type=int, default=12)
    parser.add_argument("--no-depth", action="store_true", help="only channels may go, no branches")
    parser.add_argument("--out", type=Path, help="where the sweep is kept; the command goes on with it")
    parser.add_argument("--within", type=float, help="run the sweep in parts of so many seconds, resumed")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing more after so many")
    parser.add_argument("--child", nargs="*")
    options = parser.parse_args()
    if options.child is not None:
        folder = Path(options.child[0])
        if cell := options.child[1:]:
            found = separately(options, cell[0], cell[1], folder)
        else:
            found = as_sweep(options, folder)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary) / "sweep"
        done = go_on(options, out, Path(temporary))
        if done.swept and len(done.separate) == options.separate:
            note(done, out.name, not options.no_depth)
        else:
            print(f"{done.parts} parts and {len(done.separate)} separate runs so far; go on with --out {out}")


if __name__ == "__main__":
    main()
