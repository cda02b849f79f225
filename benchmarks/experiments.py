"""All experiments: what each is called, where its rows are, how its page is made of them.

python -m benchmarks.experiments            # the table of them
python -m benchmarks.experiments pages      # write every page anew from the rows that are committed
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.common.experiment import RESULTS, Experiment
from benchmarks.common.origin import is_known

_PEERS = ("torch", "torch-pruning")
_ONNX = ("torch", "onnxruntime")

EXPERIMENTS = {
    "accuracy": Experiment(
        "benchmarks.accuracy.at_budget",
        "accuracy.jsonl",
        "accuracy.md",
        "benchmarks.accuracy.page:whole_page",
        _PEERS,
    ),
    "accuracy_full": Experiment(
        "benchmarks.accuracy.full",
        "accuracy_full.jsonl",
        "accuracy_full.md",
        "benchmarks.accuracy.full:whole_page",
        _PEERS,
    ),
    "calibration": Experiment(
        "benchmarks.calibration",
        "calibration.jsonl",
        "calibration.md",
        "benchmarks.calibration:whole_page",
        _PEERS,
    ),
    "calibration_networks": Experiment(
        "benchmarks.calibration_networks",
        "calibration_networks.jsonl",
        "calibration_networks.md",
        "benchmarks.calibration_networks:whole_page",
        ("torch", "torchvision", "timm"),
    ),
    "calibration_start": Experiment(
        "benchmarks.calibration_start",
        "calibration_start.jsonl",
        "calibration_start.md",
        "benchmarks.calibration_start:whole_page",
        _PEERS,
    ),
    "merging": Experiment(
        "benchmarks.merging", "merging.jsonl", "merging.md", "benchmarks.merging:whole_page", ("torch",)
    ),
    "accuracy_latency": Experiment(
        "benchmarks.accuracy.latency", "accuracy_latency.jsonl", packages=(*_PEERS, "onnxruntime")
    ),
    "mcu_accuracy": Experiment(
        "benchmarks.accuracy.mcu",
        "mcu_accuracy.jsonl",
        "mcu_accuracy.md",
        "benchmarks.accuracy.mcu_page:whole_page",
        _PEERS,
    ),
    "int8_accuracy": Experiment(
        "benchmarks.int8_accuracy", "int8_accuracy.csv", packages=_ONNX, key=("network", "data")
    ),
    "networks": Experiment(
        "benchmarks.networks",
        "networks.jsonl",
        "networks.md",
        "benchmarks.networks:whole_page",
        (*_ONNX, "torchvision", "timm"),
    ),
    "depth_networks": Experiment(
        "benchmarks.depth_networks",
        "depth_networks.jsonl",
        "depth_networks.md",
        "benchmarks.depth_networks:whole_page",
        (*_ONNX, "torchvision", "timm"),
    ),
    "random_networks": Experiment("benchmarks.random_networks", "random_networks.json", packages=_ONNX),
    "branch_search": Experiment("benchmarks.branch_search", "branch_search.csv", key=("first_seed",)),
    "random_branches": Experiment("benchmarks.random_branches", "random_branches.json", packages=_ONNX),
    "kills": Experiment("benchmarks.kills", "kills.jsonl", packages=_ONNX),
    "peer_speed": Experiment(
        "benchmarks.peer_speed",
        "peer_speed.json",
        "peer_speed.md",
        "benchmarks.peer_speed:whole_page",
        (*_PEERS, "torchvision"),
    ),
    "host_accuracy": Experiment("benchmarks.host_accuracy", packages=_ONNX),
    "depth_prediction": Experiment("benchmarks.pruned_prediction", "depth_prediction.csv", packages=_ONNX),
    "pruned_prediction": Experiment("benchmarks.pruned_prediction", "pruned_prediction.csv", packages=_ONNX),
    "budget_precision": Experiment(
        "benchmarks.budget_precision",
        "budget_precision.csv",
        "budget_precision.txt",
        "benchmarks.budget_precision:whole_page",
        key=("network", "device", "latency"),
    ),
    "runtimes": Experiment(
        "benchmarks.runtimes.matrix",
        "runtimes.csv",
        "runtimes.md",
        "benchmarks.runtimes.matrix:whole_page",
        _ONNX,
    ),
    "imported": Experiment(
        "benchmarks.imported",
        "imported.csv",
        "imported.md",
        "benchmarks.imported:whole_page",
        _ONNX,
        ("runtime", "network"),
    ),
    "int8_recovered": Experiment("benchmarks.int8_recovered", "int8_recovered.jsonl", packages=_ONNX),
    "formats": Experiment(
        "benchmarks.formats",
        "formats.csv",
        "formats.md",
        "benchmarks.formats:whole_page",
        _ONNX,
        ("network", "format", "precision"),
    ),
    "runtime_faults": Experiment(
        "benchmarks.runtimes.faults",
        "runtime_faults.csv",
        "runtime_faults.md",
        "benchmarks.runtimes.faults:whole_page",
        _ONNX,
        ("runtime", "cause"),
    ),
    "runtime_speedup": Experiment(
        "benchmarks.runtimes.speedup",
        "runtime_speedup.csv",
        "runtime_speedup.md",
        "benchmarks.runtimes.speedup:whole_page",
        packages=_ONNX,
        key=("network", "device", "widths", "runtime"),
    ),
    "yolo": Experiment(
        "benchmarks.yolo",
        "yolo.jsonl",
        "yolo.md",
        "benchmarks.yolo:whole_page",
        ("torch", "torchvision", "ultralytics", "torchmetrics", "onnxruntime"),
    ),
    "tasks": Experiment(
        "benchmarks.tasks",
        "tasks.jsonl",
        "tasks.md",
        "benchmarks.tasks:whole_page",
        packages=(
            "torch",
            "torchvision",
            "torchmetrics",
            "torchaudio",
            "transformers",
            "segmentation-models-pytorch",
        ),
    ),
    "composed_scenes": Experiment("benchmarks.composed.scenes"),
    "composed_words": Experiment("benchmarks.composed.words"),
    "composed_tokens": Experiment("benchmarks.composed.code_tokens"),
    "composed_pictures": Experiment("benchmarks.composed.small_pictures"),
    "runtime_profiles": Experiment("benchmarks.runtimes.fit"),
    "int8_blocks": Experiment("benchmarks.runtimes.int8_blocks"),
    "aarch64": Experiment("benchmarks.aarch64", "aarch64.csv", packages=_ONNX),
    "cortex_m": Experiment("benchmarks.cortex_m", "cortex_m.csv", packages=("emx-onnx-cgen", "onnxruntime")),
    "ethos_u": Experiment(
        "benchmarks.ethos_u", "ethos_u.csv", packages=_ONNX, key=("network", "macs", "accelerator")
    ),
    "transport_ablation": Experiment(
        "benchmarks.transport_ablation",
        "transport_ablation.json",
        "transport_ablation.txt",
        "benchmarks.transport_ablation:whole_page",
    ),
    "transport_planted": Experiment("benchmarks.transport_planted", "transport_planted.csv", key=("budget",)),
    "transport_speed_plan": Experiment(
        "benchmarks.transport_speed", "transport_speed_plan.json", packages=("torch", "pot")
    ),
    "transport_speed_step": Experiment("benchmarks.transport_speed", "transport_speed_step.json"),
    "sweep_cost": Experiment(
        "benchmarks.sweep_cost",
        "sweep_cost.jsonl",
        "sweep_cost.md",
        "benchmarks.sweep_cost:whole_page",
    ),
    "sweep_warm": Experiment(
        "benchmarks.sweep_warm",
        "sweep_warm.jsonl",
        "sweep_warm.md",
        "benchmarks.sweep_warm:whole_page",
    ),
    "two_processes": Experiment(
        "benchmarks.two_processes",
        "two_processes.json",
        "two_processes.md",
        "benchmarks.two_processes:whole_page",
    ),
}


def index() -> str:
    """The page of all experiments: the commands, the files, and how many rows say what made them."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks.experiments pages`; each command is run from the root of the",
        "checkout. A row of known origin names the commit and the version that made it. Rows older than that",
        "rule do not, and they were not made again: read them as what an earlier version reached.",
        "",
        "| experiment | command | rows | of known origin | page |",
        "|---|---|---|---|---|",
    ]
    for name, experiment in EXPERIMENTS.items():
        rows = experiment.read()
        known = sum(map(is_known, rows)) if rows else ""
        cells = [name, f"`{experiment.command}`", experiment.rows, known, experiment.page]
        if rows:
            cells[2] = f"[{len(rows)}]({experiment.rows})"
        if experiment.page:
            cells[4] = f"[{experiment.page}]({experiment.page})"
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def commands() -> list[str]:
    """Every module of this folder that is a command, declared above or not."""
    root = Path(__file__).parent
    return sorted(
        ".".join(("benchmarks", *path.relative_to(root).with_suffix("").parts))
        for path in root.rglob("*.py")
        if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    )


def main() -> None:
    if sys.argv[1:] == ["pages"]:
        (RESULTS / "README.md").write_text(index(), encoding="utf-8")
        for name, experiment in EXPERIMENTS.items():
            if experiment.maker:
                experiment.write_page()
                print(f"{name}: {experiment.page}")
        return
    print(index() if not sys.argv[1:] else __doc__)


if __name__ == "__main__":
    main()
