"""The tables of the rows that `benchmarks.accuracy.at_budget` wrote, and the page that holds them."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.common.experiment import RESULTS
from benchmarks.common.origin import is_known
from benchmarks.common.page import between
from benchmarks.experiments import EXPERIMENTS

Row = dict[str, Any]


def label(row: Row) -> str:
    """The method; of ours also what its settings say."""
    method, s = row["method"], row["settings"]
    if not method.startswith("ours"):
        return method
    masks = f", masks {s['share']:.0%}" if s.get("price") else ", unpriced start"
    return method + masks + ("" if s["refit"] else ", no least squares")


def about_origin(rows: list[Row]) -> list[str]:
    """Say how many rows do not name the commit that made them; nothing where all do."""
    unknown = sum(not is_known(row) for row in rows)
    if not unknown:
        return []
    return [
        f"{unknown} of {len(rows)} rows do not say which commit and version made them; they were not "
        "repeated."
    ]


def mean_and_spread(rows: list[Row], key: str) -> str:
    """Percent over the seeds, and from the least to the largest."""
    values = [100 * row[key] for row in rows]
    return f"{statistics.fmean(values):.1f} ({max(values) - min(values):.1f})"


def tables(rows: list[Row]) -> list[str]:
    """Mean and spread over seeds, a block for each setting."""
    blocks: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        s = row["settings"]
        if "test" in row:
            key = (s["model"], s["macs"], s["latency"], s["steps"], s["distill"], row["base"])
            blocks.setdefault(key, []).append(row)
    lines: list[str] = []
    for (model, macs, latency, steps, distill, base), members in blocks.items():
        lines += ["", f"{model}, MACs {macs} (latency {latency}), {steps} steps, distillation {distill}"]
        lines += [f"base {100 * base:.2f}", ""]
        lines += ["| method | MACs | at the cut | test | spread | seeds |", f"|{'---|' * 6}"]
        for method in dict.fromkeys(map(label, members)):
            lines.append(_line(method, [r for r in members if label(r) == method]))
    return lines


def _line(method: str, found: list[Row]) -> str:
    tests = [100 * r["test"] for r in found]
    spread = f"{statistics.stdev(tests):.2f}" if len(tests) > 1 else "-"
    ratio = statistics.mean(r["macs_ratio"] for r in found)
    cut = 100 * statistics.mean(r["at_cut_holdout"] for r in found)
    return f"| {method} | {ratio:.3f} | {cut:.1f} | {statistics.mean(tests):.2f} | {spread} | {len(tests)} |"


START = (
    '"At the cut" is the hold-out before fine-tuning, "test" the mean over seeds, "spread" the standard '
    "deviation.\n"
)


LATENCY_HEAD = (
    "| target | method | measured | MACs | hold-out | test | spread | seeds |\n" + f"|{'---|' * 8}\n"
)


def latency_table(rows: list[Row]) -> list[str]:
    """Accuracy at equal measured latency: means over the seeds; of ours also each seed's latency."""
    lines = []
    for target, method in dict.fromkeys((r["target"], r["method"]) for r in rows if "test" in r):
        found = [r for r in rows if (r["target"], r["method"]) == (target, method) and "test" in r]
        shares = [100 * r["latency_share"] for r in found]
        each = f" ({', '.join(f'{s:.1f}' for s in shares)})" if method.startswith("ours") else ""
        macs, holdout, test = (
            100 * statistics.mean(r[k] for r in found) for k in ("macs_ratio", "holdout", "test")
        )
        spread = f"{statistics.stdev(100 * r['test'] for r in found):.2f}" if len(found) > 1 else "-"
        lines.append(
            f"| {target} | {method} | {statistics.mean(shares):.1f} %{each} | {macs:.1f} % | {holdout:.2f} "
            f"| {test:.2f} | {spread} | {len(found)} |"
        )
    return lines


def whole_page() -> str:
    """accuracy.md: its tables from the committed rows, the text around them as it stands."""
    text = (RESULTS / "accuracy.md").read_text(encoding="utf-8")
    rows = EXPERIMENTS["accuracy"].read()
    lines = [*about_origin(rows), *tables(rows), "", ""]
    text = between(text, START, "## Equal measured latency", "\n".join(lines))
    latency = latency_table(EXPERIMENTS["accuracy_latency"].read())
    return between(text, LATENCY_HEAD, "\n\n", "\n".join(latency))
