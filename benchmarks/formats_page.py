"""The page of further formats: one table a figure, every cell that is not whole with its cause."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.common.experiment import Row
from benchmarks.runtimes.edge_networks import NETWORKS

OUTLIER = 0.1  # plans that are further from the prediction are named
HEAD = """\
Pruned networks (half their MACs, random weights) in further formats, as `--format` makes them: by the
vendor's exporter, read back by its runtime, compared with the compact network in torch. Written by
`python -m benchmarks.formats page`.
"""
AGREEMENT = """\
fp32: relative error (RMS) against torch; a file is kept if its largest difference is within 1e-4 of the
largest output, or four times torch's own rounding. int8: the same on 16 held-out inputs, and the share of
them with the same top class; kept if at most twice the error of the int8 ONNX file. The weights are random,
so int8 errs more than on trained networks.
"""
TIMES = """\
Milliseconds in one thread, ONNX Runtime's (fp32) in brackets: the lower quartile of all runs, all files of a
runtime in turns (`python -m benchmarks.formats times`). Where a * stands the file was timed when it was made,
on a machine that did other work: trust no single one.
"""
MEMORY = """\
The runtime's plan over our prediction, in brackets both in bytes. ExecuTorch's is its memory plan with
portable kernels, LiteRT's the arena of the reference kernels; the prediction is of the same runtime's planner
(`dtp_edge/cost/planners.py`). ExecuTorch has no portable kernels for its int8 graphs, so no plan either.
"""


def page_of(rows: Sequence[Row]) -> str:
    """Return the page of the rows."""
    if not rows:
        return f"# Further formats\n\n{HEAD}\nNo rows yet.\n"
    networks = [name for name in NETWORKS if any(row["network"] == name for row in rows)]
    columns = list(dict.fromkeys((row["format"], row["precision"]) for row in rows))
    cells = {(r["network"], r["format"], r["precision"]): r for r in rows}
    versions = {r["format"]: r["version"] for r in rows if r["version"]}

    def table(text: Callable[[Row], str]) -> list[str]:
        lines = [
            "| network | " + " | ".join(f"{f} {p}" for f, p in columns) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        for name in networks:
            values = [text(cells[name, f, p]) if (name, f, p) in cells else "" for f, p in columns]
            lines.append(f"| {name} | " + " | ".join(values) + " |")
        return [*lines, ""]

    bad = [r for r in rows if r["status"] != "ok"]
    part = [r for r in rows if r["status"] == "ok" and _number(r, "delegated") < 0.9995]
    lines = [
        "# Further formats",
        "",
        HEAD,
        "Versions: " + ", ".join(f"{n} {v}" for n, v in versions.items()),
        "",
    ]
    lines += [
        f"{len(rows) - len(bad)} of {len(rows)} cells are files that agree.",
        "",
        "## Agreement",
        "",
        AGREEMENT,
    ]
    lines += table(_agreement)
    lines += [
        "## Placement",
        "",
        "Share of the predicted time that the runtime's unit takes.",
        "",
        *table(_share),
    ]
    lines += [f"- {_cell(r)}: left behind {r['left']}" for r in part] + ([""] if part else [])
    lines += [
        "## Size",
        "",
        "KiB on disk.",
        "",
        *table(lambda r: _of(r, "bytes", lambda v: f"{v / 1024:.0f}")),
    ]
    lines += ["## Time", "", TIMES, *table(_time), "## Memory", "", MEMORY, *table(_memory), *_median(rows)]
    lines += ["## Cells without a file", ""]
    lines += [f"- {_cell(r)}: {r['status']}: {r['detail']}" for r in bad] or ["None."]
    stamp = "; ".join(dict.fromkeys(row["origin"] for row in rows))
    timed = "; ".join(dict.fromkeys(row["timed"] for row in rows if row.get("timed")))
    lines += ["", f"Timed by: {timed}"] if timed else []
    return "\n".join([*lines, "", f"Made by: {stamp}", ""])


def _cell(row: Row) -> str:
    return f"{row['network']} {row['format']} {row['precision']}"


def _number(row: Row, key: str) -> float:
    return float(row[key]) if row.get(key) else 0.0


def _of(row: Row, key: str, text: Callable[[float], str]) -> str:
    return text(float(row[key])) if row["status"] == "ok" and row.get(key) else "-"


def _agreement(row: Row) -> str:
    if row["status"] != "ok":
        return f"**{row['status']}**"
    error = f"{_number(row, 'relative_error'):.1e}"
    return error if row["precision"] == "fp32" else f"{error}, {100 * _number(row, 'same_top1'):.0f} %"


def _share(row: Row) -> str:
    return _of(row, "delegated", lambda v: f"{100 * v:.1f} %")


def _time(row: Row) -> str:
    mark = "" if row.get("timed") else "*"
    return _of(row, "latency_ms", lambda v: f"{v:.3g} ({_number(row, 'onnxruntime_ms'):.3g}){mark}")


def _memory(row: Row) -> str:
    predicted = _number(row, "predicted_ram_bytes")
    return _of(row, "memory_bytes", lambda v: f"{v / predicted:.2f} ({v:.0f} / {predicted:.0f})")


def _median(rows: Sequence[Row]) -> list[str]:
    lines = []
    for one in dict.fromkeys((r["format"], r["precision"]) for r in rows):
        found = {
            r["network"]: _number(r, "memory_bytes") / _number(r, "predicted_ram_bytes")
            for r in rows
            if (r["format"], r["precision"]) == one and r["status"] == "ok" and r.get("memory_bytes")
        }
        if found:
            apart = statistics.median(abs(ratio - 1) for ratio in found.values())
            what = f"- {one[0]} {one[1]}: plan and prediction are {100 * apart:.1f} % apart"
            far = [f"{name} {ratio:.2f}" for name, ratio in found.items() if abs(ratio - 1) > OUTLIER]
            more = f"; more than {100 * OUTLIER:.0f} %: {', '.join(far)}" if far else ""
            lines.append(f"{what} in the median of {len(found)}{more}")
    return [*lines, ""]
