"""The table of the rows that `accuracy.py` wrote."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any


def label(row: dict[str, Any]) -> str:
    """The method; of ours also what its settings say."""
    method, s = row["method"], row["settings"]
    if not method.startswith("ours"):
        return method
    masks = f", masks {s['share']:.0%}" if s.get("price") else ", unpriced start"
    return method + masks + ("" if s["refit"] else ", no least squares")


def print_table(path: Path) -> None:
    """Mean and spread over seeds, a block for each setting."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    blocks: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        s = row["settings"]
        row["method"] = label(row)
        if "test" in row:
            key = (s["model"], s["macs"], s["latency"], s["steps"], s["distill"], row["base"])
            blocks.setdefault(key, []).append(row)
    for (model, macs, latency, steps, distill, base), members in blocks.items():
        print(f"\n{model}, MACs {macs} (latency {latency}), {steps} steps, distillation {distill}")
        print(
            f"base {100 * base:.2f}\n\n| method | MACs | at the cut | test | spread | seeds |\n|{'---|' * 6}"
        )
        for method in dict.fromkeys(r["method"] for r in members):
            found = [r for r in members if r["method"] == method]
            tests = [100 * r["test"] for r in found]
            spread = f"{statistics.stdev(tests):.2f}" if len(tests) > 1 else "-"
            ratio = statistics.mean(r["macs_ratio"] for r in found)
            cut = 100 * statistics.mean(r["at_cut_holdout"] for r in found)
            mean = statistics.mean(tests)
            print(f"| {method} | {ratio:.3f} | {cut:.1f} | {mean:.2f} | {spread} | {len(tests)} |")
