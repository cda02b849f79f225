"""Several runs side by side: which of them are worth having, and what each costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError
from dtp_edge.files import write_text
from dtp_edge.metrics import Headline, title
from dtp_edge.report import words
from dtp_edge.report.page import render_compare
from dtp_edge.report.schema import filled, read_report
from dtp_edge.report.verdict import Status, judge


@dataclass
class Run:
    """One run as the comparison sees it. `latency_ms` is the profile's prediction, so runs compare evenly.

    `pareto`: no other run on the same data and device is both faster and better.
    """

    name: str
    path: str
    model: str
    device: str
    mode: str
    asked: str
    status: Status
    latency_ms: float | None
    dense_latency_ms: float | None
    measured_ms: float | None
    accuracy: float | None
    control: float | None
    peak_ram_bytes: float | None
    flash_bytes: float | None
    params: float | None
    data: str | None = None
    pareto: bool | None = None
    headline: Headline = field(default_factory=lambda: Headline("accuracy"))


@dataclass(frozen=True)
class Comparison:
    """`html` is a self-contained page, `table` text of at most 80 columns, `rows` the same as plain data."""

    html: str
    table: str
    rows: list[dict[str, Any]]

    def write(self, path: str | Path) -> Path:
        """Write the page to `path` in one move."""
        write_text(Path(path), self.html)
        return Path(path)


def compare_reports(folders: Sequence[str | Path], *, out: str | Path | None = None) -> Comparison:
    """Compare the runs in `folders` (or report.json files); write the page to `out` if it is given.

    Raises InputError if there are none, or one of them holds no valid report.
    """
    if not folders:
        raise InputError("no run to compare", hint="Give one or more --out folders.")
    runs = [_run(name, Path(folder)) for name, folder in zip(_names(folders), folders, strict=True)]
    _mark_pareto(runs)
    rows = [asdict(run) for run in runs]
    done = Comparison(html=_page(runs, rows), table=_table(runs), rows=rows)
    if out is not None:
        done.write(out)
    return done


def _names(folders: Sequence[str | Path]) -> list[str]:
    """Return the shortest endings of the paths that tell them apart."""
    paths = [Path(f).resolve() for f in folders]
    paths = [p.parent if p.name == "report.json" else p for p in paths]
    for depth in range(1, 6):
        names = ["/".join(p.parts[-depth:]) for p in paths]
        if len(set(names)) == len(set(paths)):
            return names
    return [str(p) for p in paths]


def _run(name: str, path: Path) -> Run:
    report = filled(read_report(path))
    budgets = {b["metric"]: b for b in report["budgets"]}
    accuracy = report["accuracy"] or {}

    def value(metric: str, key: str = "pruned_predicted") -> float | None:
        return budgets.get(metric, {}).get(key)

    pruned = accuracy.get("int8") if accuracy.get("int8") is not None else accuracy.get("pruned")
    return Run(
        name=name,
        path=str(path),
        model=report["model"]["name"],
        device=report["device"]["name"],
        mode=report["run"]["mode"],
        asked=", ".join(
            f"{title(b['metric'])} {b['asked_text']}" for b in report["budgets"] if b["asked_text"]
        ),
        status=judge(report).status,
        latency_ms=value("latency_ms"),
        dense_latency_ms=value("latency_ms", "dense_predicted"),
        measured_ms=value("latency_ms", "pruned_measured"),
        accuracy=pruned,
        control=accuracy.get("control") if accuracy.get("control") is not None else accuracy.get("base"),
        peak_ram_bytes=value("peak_ram_bytes"),
        flash_bytes=value("flash_bytes"),
        params=value("params"),
        data=report["run"]["data"],
        headline=Headline.of(accuracy),
    )


def _mark_pareto(runs: Iterable[Run]) -> None:
    """Mark each run that no other of its kind beats: faster and no less accurate, or the reverse."""
    known = [r for r in runs if r.latency_ms is not None and r.accuracy is not None]
    for run in known:
        run.pareto = not any(_beats(other, run) for other in known if _kind(other) == _kind(run))


def _kind(run: Run) -> tuple[str, str | None, str]:
    return run.device, run.data, run.headline.name


def _beats(a: Run, b: Run) -> bool:
    gain = a.headline.worth(a.accuracy) - b.headline.worth(b.accuracy)
    better = (b.latency_ms or 0) - (a.latency_ms or 0), gain
    return min(better) >= 0 and max(better) > 0


def _page(runs: list[Run], rows: list[dict[str, Any]]) -> str:
    kinds: dict[tuple[str, str | None, str], list[dict[str, Any]]] = {}
    for run, row in zip(runs, rows, strict=True):
        kinds.setdefault(_kind(run), []).append(row)
    heads = {_kind(run): run.headline for run in runs}
    groups = [
        {"id": f"pareto-{i}", "device": kind[0], "data": kind[1], "headline": heads[kind], "runs": members}
        for i, (kind, members) in enumerate(kinds.items())
    ]
    short = [{k: words.short(g[k] or "", 60) for k in ("device", "data")} for g in groups]
    data = [{**g, "headline": asdict(g["headline"]), **names} for g, names in zip(groups, short, strict=True)]
    for group in data:
        group["runs"] = [{**r, "name": words.short(r["name"], 60), "path": ""} for r in group["runs"]]
    return render_compare(groups=groups, runs=runs, data={"groups": data})


COLUMNS = (("run", 22), ("device", 18), ("latency", 9), ("dense", 6), ("acc.", 7), ("control", 7), ("", 4))


def _table(runs: list[Run]) -> str:
    """Return the comparison as text: 80 columns, `*` on the Pareto front."""
    lines = [_line([title for title, _ in COLUMNS])]
    marks = {"good": "fits", "warn": "fits", "bad": "OVER", "info": ""}
    for run in runs:
        ratio = run.latency_ms / run.dense_latency_ms if run.latency_ms and run.dense_latency_ms else None
        cells = [
            ("* " if run.pareto else "  ") + words.short(run.name, COLUMNS[0][1] - 2),
            words.short(run.device, COLUMNS[1][1]),
            words.figure(run.latency_ms, "ms"),
            words.percent(ratio, 0),
            run.headline.text(run.accuracy, min(run.headline.decimals, 1)),
            run.headline.text(run.control, min(run.headline.decimals, 1)),
            marks[run.status],
        ]
        lines.append(_line(cells))
    return "\n".join([*lines, "* no other run on this device and data is both faster and better"])


def _line(cells: list[str]) -> str:
    printable = ["".join(c if c.isprintable() else "?" for c in cell) for cell in cells]
    sized = [
        f"{c:<{w}}" if i < 2 or i == 6 else f"{c:>{w}}"
        for i, (c, (_, w)) in enumerate(zip(printable, COLUMNS, strict=True))
    ]
    return " ".join(sized).rstrip()
