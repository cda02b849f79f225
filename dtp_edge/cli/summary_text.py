"""A finished run on one screen."""

from __future__ import annotations

from typing import Any

import click

from dtp_edge.cli.console import TITLES, quantity, style, table
from dtp_edge.result import PruneResult


def show_result(result: PruneResult, *, verbose: bool) -> None:
    report = result.report
    device = report["device"]
    click.echo("")
    click.echo(style(f"{report['model']['name']} for {device['name']}", bold=True))
    click.echo(table(["metric", "dense", "pruned", "ratio", "budget", ""], _budget_rows(report)))
    if device.get("error_text"):
        click.echo(f"device profile: {device['error_text']}")
    _show_measured(report)
    _show_accuracy(report)
    passed = sum(check["passed"] for check in report["checks"])
    click.echo(f"checks     {passed} of {len(report['checks'])} passed: {_worst_checks(report)}")
    _show_widths(result, verbose)
    for text in report.get("warnings") or []:
        click.echo(f"{style('warning:', fg='yellow')} {text}")
    if result.out is not None:
        click.echo(f"files      {result.out}/  model.onnx  model.safetensors  widths.json  report.html")


def _budget_rows(report: dict[str, Any]) -> list[list[str]]:
    rows = []
    for row in report["budgets"]:
        metric, dense, pruned = row["metric"], row["dense_predicted"], row["pruned_predicted"]
        verdict = ""
        if row["fits"] is not None:
            verdict = style("fits", fg="green") if row["fits"] else style("too large", fg="red")
        rows.append(
            [
                TITLES[metric],
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
        click.echo(
            f"measured   {row['pruned_measured']:.3g} ms of {row['dense_measured']:.3g} ms: ratio "
            f"{measured['ratio']:.3f} ({measured['ratio_low']:.3f}-{measured['ratio_high']:.3f}), "
            f"{measured['threads']} thread, {measured['runtime']}, timed in turns here"
        )


def _show_accuracy(report: dict[str, Any]) -> None:
    accuracy = report.get("accuracy")
    if not accuracy:
        return
    names = (("base", "base"), ("control", "dense control"), ("at_cut", "at the cut"), ("pruned", "pruned"))
    parts = [
        f"{title} {100 * accuracy[key]:.2f} %"
        for key, title in (*names, ("int8", "int8"))
        if accuracy.get(key)
    ]
    click.echo(f"accuracy   {', '.join(parts)} (n = {accuracy['n_test']})")


def _worst_checks(report: dict[str, Any]) -> str:
    parts = [f"{c['name']} {c['value']:.1e}" for c in report["checks"] if c["value"] and c["value"] < 0.01]
    return ", ".join(parts[:3])


def _show_widths(result: PruneResult, verbose: bool) -> None:
    kept = sum(k for k, _ in result.widths.values())
    total = sum(t for _, t in result.widths.values())
    frozen = f", {len(result.frozen)} parts left whole" if result.frozen else ""
    click.echo(f"channels   {kept} of {total} kept in {len(result.widths)} groups{frozen}")
    if verbose:
        click.echo(table(["group", "kept", "of"], [[n, k, t] for n, (k, t) in result.widths.items()]))
        if result.frozen:
            click.echo(table(["left whole", "reason"], result.frozen))
