"""The page of `mcu.py`: means over the seeds, beside uniform scaling."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.accuracy.page import about_origin
from benchmarks.experiments import EXPERIMENTS
from dtp_edge.transport.harden import MIN_KEEP

METHODS = ("ours", "uniform", "tp", "scratch", "control")
Row = dict[str, Any]


def whole_page() -> str:
    """The page of the committed rows."""
    return page(EXPERIMENTS["mcu_accuracy"].read())


def page(rows: list[Row]) -> str:
    """The table: mean and standard deviation of the test accuracy over the seeds."""
    last = rows[-1]
    ram, flash = (last["dense"][m] / 1024 for m in ("peak_ram_bytes", "flash_bytes"))
    lines = [
        "# Accuracy on a microcontroller",
        "",
        f"Fashion-MNIST, MobileNetV1 width {last['run']['width']} at 28x28, `{last['run']['device']}`; "
        f"{last['run']['base_epochs']} epochs of base, {last['run']['steps']} steps after it for every row, "
        f"batch {last['run']['batch_size']}. Written by `python -m benchmarks.accuracy.mcu`.",
        f"{last['date']}, {last['machine']}, torch {last['torch']}, torch-pruning {last['torch-pruning']}, "
        f"dtp-edge {last['dtp-edge']}. Base: test {100 * last['base']['test']:.2f}; dense RAM "
        f"{ram:.1f} KiB, flash {flash:.1f} KiB.",
        *_about_ours(rows),
        *about_origin(rows),
        "",
        "| RAM,flash | method | RAM KiB | flash KiB | setting | test % | spread | seeds | above uniform |",
        f"|{'---|' * 9}",
    ]
    for pair in dict.fromkeys(r["budget"] for r in rows if r["method"] != "control"):
        members = [r for r in rows if r["budget"] == pair and r["method"] != "control"]
        means = {
            m: 100 * statistics.mean(r["test"] for r in members if r["method"] == m) for m in methods(members)
        }
        for method, mean in means.items():
            found = [r for r in members if r["method"] == method]
            gain = f"{mean - means['uniform']:+.2f}" if method != "uniform" and "uniform" in means else ""
            lines.append(_line(pair, method, found, mean, gain))
    control = [r for r in rows if r["method"] == "control"]
    if control:
        mean = 100 * statistics.mean(r["test"] for r in control)
        lines.append(_line("none", "control (dense)", control, mean, ""))
    return "\n".join(lines) + "\n"


def _about_ours(rows: list[Row]) -> list[str]:
    """Say with which floor ours ran, where that was not the product's own."""
    floors = {r["min_keep"] for r in rows if r["method"] == "ours" and r.get("min_keep") is not None}
    return [
        f"Ours with --min-keep {f}: at least {f:.0%} of every group stay (default {MIN_KEEP})."
        for f in floors
    ]


def methods(rows: list[Row]) -> list[str]:
    return [m for m in (*METHODS, "dense") if any(r["method"] == m for r in rows)]


def _line(pair: str, method: str, found: list[Row], mean: float, gain: str) -> str:
    ram, flash = (max(r["costs"][m] for r in found) / 1024 for m in ("peak_ram_bytes", "flash_bytes"))
    spread = statistics.stdev(100 * r["test"] for r in found) if len(found) > 1 else None
    setting = f"{found[0]['setting']} {found[0]['rate']}".replace("- ", "rate ").replace(
        "fits 0.0", "as it is"
    )
    shown = "" if spread is None else f"{spread:.2f}"
    cells = [pair, method, f"{ram:.1f}", f"{flash:.1f}", setting, f"{mean:.2f}", shown, str(len(found)), gain]
    return f"| {' | '.join(cells)} |"
