"""A finished run on one screen."""

from __future__ import annotations

from typing import Any

import click

from dtp_edge.cli.console import quantity, style, table, wrapped
from dtp_edge.metrics import TOP1, Headline, digits, title
from dtp_edge.report.verdict import interval_of
from dtp_edge.run.result import PruneResult


def show_result(result: PruneResult, *, verbose: bool) -> None:
    report = result.report
    device = report["device"]
    click.echo("")
    click.echo(style(f"{report['model']['name']} for {device['name']}", bold=True))
    click.echo(table(["metric", "dense", "pruned", "ratio", "budget", ""], _budget_rows(report)))
    fact("predicted", device["error_text"] if verbose else _error(device))
    _show_measured(report)
    _show_accuracy(report)
    _show_calibration(report)
    passed = sum(check["passed"] for check in report["checks"])
    fact("checks", f"{passed} of {len(report['checks'])} passed: {_worst_checks(report)}")
    _show_branches(report)
    _show_widths(result, verbose)
    _show_formats(report)
    for text in report.get("warnings") or []:
        click.echo(wrapped(style("warning:", fg="yellow"), text))
    if result.out is not None:
        names = [file["path"] for file in report["files"]]
        fact("files", f"in {result.out}: {', '.join(names)}, report.html")


def fact(name: str, text: str) -> None:
    """Print one line of the summary, folded under itself."""
    click.echo(wrapped(f"{name:<10}", text))


def _error(device: dict[str, Any]) -> str:
    """How far the profile errs, without how that is known (the report and -v say it)."""
    if device.get("relative_error") is None:
        return "by a profile whose error is unknown; `dtp-edge devices NAME` says why"
    return f"by a profile with an error of {100 * device['relative_error']:.1f} % (median, held-out networks)"


def _budget_rows(report: dict[str, Any]) -> list[list[str]]:
    rows = []
    for row in report["budgets"]:
        metric, dense, pruned = row["metric"], row["dense_predicted"], row["pruned_predicted"]
        verdict = ""
        if row["fits"] is not None:
            verdict = style("fits", fg="green") if row["fits"] else style("too large", fg="red")
        rows.append(
            [
                title(metric),
                quantity(metric, dense),
                quantity(metric, pruned),
                f"{pruned / dense:.3f}" if dense else "-",
                quantity(metric, row["limit"]),
                verdict,
            ]
        )
    return rows


def _show_measured(report: dict[str, Any]) -> None:
    row = next(r for r in report["budgets"] if r["metric"] == "latency_ms")
    measured = row.get("measurement")
    if measured:
        threads = f"{measured['threads']} thread{'' if measured['threads'] == 1 else 's'}"
        where = f"on {measured['place']}" if measured.get("place") else "here"
        fact(
            "measured",
            f"{digits(row['pruned_measured'])} ms of {digits(row['dense_measured'])} ms {where}: ratio "
            f"{measured['ratio']:.3f} ({measured['ratio_low']:.3f} to {measured['ratio_high']:.3f}), "
            f"{measured['runtime']}, {threads}, timed in turns",
        )


def _show_calibration(report: dict[str, Any]) -> None:
    found = report.get("calibration")
    if found:
        top = found["agreement"]
        agrees = "" if top is None else f"top class as in the dense network on {100 * top:.1f} %, "
        fact(
            "held out",
            f"{agrees}output off by {100 * found['output_error']:.2g} % (squared), "
            f"on {found['held_out']} inputs; no labels were read",
        )


def _show_accuracy(report: dict[str, Any]) -> None:
    accuracy = report.get("accuracy")
    if not accuracy:
        return
    names = (("base", "base"), ("control", "dense control"), ("at_cut", "at the cut"), ("pruned", "pruned"))
    headline = Headline.of(accuracy)
    parts = [
        f"{title} {headline.text(accuracy[key])}"
        for key, title in (*names, ("int8", "int8"))
        if accuracy.get(key) is not None
    ]
    lower = "" if headline.higher_is_better else ", lower is better"
    ends = interval_of(accuracy, "pruned")
    sure = f", pruned {headline.text(ends[0])} to {headline.text(ends[1])} at 95 %" if ends else ""
    if headline.name == TOP1:
        sure = ""
    name = "accuracy" if headline.name == TOP1 else headline.name
    fact(name, f"{', '.join(parts)} ({accuracy['n_test']} test samples{sure}{lower})")


def _worst_checks(report: dict[str, Any]) -> str:
    """The proofs of equality in the order of the chain, each with how far the two sides are apart."""
    equalities = [c for c in report["checks"] if 0 < c["limit"] < 0.1]
    return ", ".join(f"{c['name']} {c['value']:.1e}" if c["value"] else c["name"] for c in equalities)


def _show_branches(report: dict[str, Any]) -> None:
    """Say which branches went and what each saves, where branches could go."""
    if "depth" not in report:
        return
    branches = report["depth"]["branches"]
    gone = [f"{b['name']} ({digits(b['saves_latency_ms'])} ms)" for b in branches if b["gone"]]
    if not branches:
        fact("branches", "no branches: nothing that this network adds can go by itself")
    else:
        fact("branches", f"{len(gone)} of {len(branches)} went{': ' if gone else ''}{', '.join(gone)}")


def _show_formats(report: dict[str, Any]) -> None:
    """Print a line a further format: who computes, how far it is off, its size and its memory plan."""
    rows = []
    for row in report.get("formats") or []:
        placed, plan = row["placement"], row["memory_bytes"]
        rows.append(
            [
                f"{row['format']} {row['precision']}",
                style(row["status"], fg="green" if row["status"] == "ok" else "red"),
                "-" if row["relative_error"] is None else f"{row['relative_error']:.1e}",
                "-" if placed is None else f"{100 * placed['delegated']:.1f} %",
                "-"
                if placed is None
                else ", ".join(dict.fromkeys(o["kind"] for o in placed["left"][:3])) or "none",
                quantity("flash_bytes", row["bytes"]) if row["bytes"] else "-",
                "-" if plan is None else quantity("peak_ram_bytes", plan),
                "-" if row["latency_ms"] is None else f"{digits(row['latency_ms'])} ms",
            ]
        )
    if rows:
        headers = ["format", "", "error", "delegated", "left behind", "size", "memory plan", "here"]
        click.echo(table(headers, rows))


def _show_widths(result: PruneResult, verbose: bool) -> None:
    groups = result.report.get("groups") or []
    kept, total = sum(g["kept"] for g in groups), sum(g["total"] for g in groups)
    count = len(result.frozen)
    frozen = f", {count} part{'' if count == 1 else 's'} left whole" if count else ""
    fact("channels", f"{kept} of {total} kept in {len(groups)} groups{frozen}")
    if verbose:
        groups = [[name, kept, total] for name, (kept, total) in result.widths.items()]
        click.echo(f"\n{table(['group', 'kept', 'of'], groups)}\n")
        if result.frozen:
            click.echo(f"{table(['left whole', 'reason'], result.frozen)}\n")
