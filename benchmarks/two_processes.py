"""One process and two (torchrun, gloo): the same budget, and an accuracy within noise of one another.

    python -m benchmarks.two_processes [--seeds 0,1,2] [--processes 2]

MLPerf Tiny's image network learns scikit-learn's digits (8x8) and is cut to half its MACs, once in one
process and once in `--processes` that share every batch, through `prune_for_device` as the command line
calls it. Noise is the spread over the seeds. Results: results/two_processes.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common.origin import ROOT, is_known
from benchmarks.experiments import EXPERIMENTS

TWO = EXPERIMENTS["two_processes"]
BUDGET, SIZE = 0.5, 8


def child(seed: int, out: Path) -> None:
    """One of the processes: a whole run; each writes down what it holds."""
    import hashlib

    import torch
    from accelerate import PartialState

    from dtp_edge import Budget, prune_for_device
    from dtp_edge.training import Recipe, load_data
    from dtp_edge.zoo import create

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = load_data("digits", image_size=SIZE)
    model = create("resnet8", 10, 1)
    recipe = Recipe(batch_size=64, base_epochs=5, mask_epochs=1, tune_epochs=2)
    result = prune_for_device(
        model,
        torch.zeros(1, 1, SIZE, SIZE),
        device="rpi4-ncnn-fp32-1t",
        budget=Budget(macs=f"{BUDGET:.0%}"),
        data=data,
        recipe=recipe,
        seed=seed,
    )
    weights = b"".join(t.numpy().tobytes() for t in result.module.state_dict().values())
    found = {
        "processes": PartialState().num_processes,  # not what was launched: those that train together
        "widths": {name: list(pair) for name, pair in result.widths.items()},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "budget_used": max(
            b["pruned_predicted"] / b["limit"] for b in result.report["budgets"] if b["limit"]
        ),
        "accuracy": result.report["accuracy"],
    }
    Path(out, f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))


def launch(seed: int, processes: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        start = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
        command = [sys.executable, *(start if processes > 1 else []), "-m", __spec__.name]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [*command, "--child", folder, "--seeds", str(seed)], check=True, env=environment, cwd=ROOT
        )
        return [json.loads(Path(folder, f"rank{rank}.json").read_text()) for rank in range(processes)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--child", help="(internal) one process's run, written to this folder")
    options = parser.parse_args()
    if options.child:
        child(int(options.seeds), Path(options.child))
        return
    rows = []
    for seed in map(int, options.seeds.split(",")):
        for processes in (1, options.processes):
            began = time.time()
            ranks = launch(seed, processes)
            row = {"seed": seed, **ranks[0], "seconds": round(time.time() - began)}
            row["ranks_agree"] = all(rank == ranks[0] for rank in ranks)  # widths, weights, accuracies
            rows.append(row)
            print(seed, processes, row["accuracy"]["pruned"], "ranks agree:", row["ranks_agree"], flush=True)
            TWO.document({"rows": rows})
    print(TWO.write_page())


def whole_page() -> str:
    """The page of the committed rows."""
    found = json.loads(TWO.path.read_text())
    return page(found["rows"], found)


def page(rows: list[dict[str, Any]], where: dict[str, Any]) -> str:
    lines = [
        "# One process and several",
        "",
        f"ResNet-8 on digits at {SIZE}x{SIZE}, half the MACs, batch 64 shared by all (gloo). Written by",
        f"`python -m benchmarks.two_processes`, {where['date']}, {where['machine']}, torch {where['torch']}.",
        *([] if is_known(where) else ["The rows do not say which commit and version made them."]),
        *(["", f"**Struck** ({where['struck'].replace(':', '):', 1)}"] if where.get("struck") else []),
        "",
        "| seed | processes | share of the budget used | base % | pruned % | ranks agree | seconds |",
        f"|{'---|' * 7}",
    ]
    for r in rows:
        used = r["budget_used"]
        base, pruned = (100 * r["accuracy"][k] for k in ("base", "pruned"))
        agree = "yes" if r["ranks_agree"] else "NO"
        cells = [str(r["seed"]), str(r["processes"]), f"{used:.4f}", f"{base:.2f}", f"{pruned:.2f}", agree]
        cells.append(str(r["seconds"]))
        shown = [f"~~{cell}~~" for cell in cells] if r.get("struck") else cells
        lines.append(f"| {' | '.join(shown)} |")
    rows = [r for r in rows if not r.get("struck")]
    counts = sorted({r["processes"] for r in rows})
    by = {n: [100 * r["accuracy"]["pruned"] for r in rows if r["processes"] == n] for n in counts}
    if all(len(v) > 1 for v in by.values()):
        lines.append("")
        lines += [
            f"{n} process{'es' if n > 1 else ''}: {statistics.mean(v):.2f} ± {statistics.stdev(v):.2f}"
            for n, v in by.items()
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
