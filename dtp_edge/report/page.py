"""report.html: one self-contained page, made from a valid report and nothing else.

All text from outside goes through Jinja's escaping, and the data of the charts through `tojson`, which
also escapes `<`, `>`, `&` and quotes, so no name can end a script or open a tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from dtp_edge.metrics import Headline
from dtp_edge.report import words
from dtp_edge.report.schema import filled
from dtp_edge.report.sections import all_sections, sections_of
from dtp_edge.report.series import chart_data, layer_names
from dtp_edge.report.strip import strip_rows
from dtp_edge.report.verdict import accuracy_cost, interval_of, judge, measured_ratio

LONG_NAME = 120  # longer names are folded


def learned_masks(report: Mapping[str, Any]) -> bool:
    """Return whether masks were learned, of which the curves tell."""
    return any(row["phase"] == "masks" for row in report.get("curves") or [])


def render_page(report: Mapping[str, Any]) -> str:
    """Return the whole page for a report that follows the schema."""
    report = filled(report)
    budgets = {budget["metric"]: budget for budget in report["budgets"]}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            verdict=judge(report),
            facts=_facts(report, budgets),
            accuracy=_accuracy_rows(report.get("accuracy")),
            headline=Headline.of(report.get("accuracy")),
            sections=sections_of(report),
            strip=_strip(report),
            layers=list(zip(layer_names(report["layers"]), report["layers"], strict=True)),
            latency=budgets.get("latency_ms"),
            unowned=_unowned(report["layers"], budgets.get("latency_ms")),
            measured_ratio=measured_ratio(budgets["latency_ms"]) if "latency_ms" in budgets else None,
            data=chart_data(report),
            masks=learned_masks(report),
            **assets(),
        )
    )


def render_compare(**context: Any) -> str:
    """Return the page that compares runs."""
    return _environment().get_template("compare.html.j2").render(**context, **assets())


def render_sweep(**context: Any) -> str:
    """Return the page of a sweep."""
    return _environment().get_template("sweep.html.j2").render(**context, **assets())


@cache
def assets() -> dict[str, str]:
    """Return the stylesheet and scripts that every page carries, as trusted text of this package."""
    files = resources.files("dtp_edge.report")
    names = {
        "style": "templates/style.css",
        "d3": "vendor/d3.min.js",
        "plot": "vendor/plot.min.js",
        "kit": "templates/kit.js",
        "charts": "templates/charts.js",
        "compare_charts": "templates/compare.js",
        "sweep_charts": "templates/sweep.js",
    }
    return {name: files.joinpath(path).read_text(encoding="utf-8") for name, path in names.items()}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.DictLoader({section.file: section.text for section in all_sections()}),
                jinja2.PackageLoader("dtp_edge.report", "templates"),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=words.figure,
        percent=words.percent,
        digits=words.digits,
        seconds=words.seconds,
        shape=words.shape,
        short=words.short,
        sentence=words.sentence,
    )
    environment.globals.update(LONG_NAME=LONG_NAME, fact=words.fact)
    return environment


def _facts(report: Mapping[str, Any], budgets: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the three or four figures that a reader looks for first."""
    facts = []
    latency = budgets.get("latency_ms")
    if latency and latency["dense_predicted"] and latency["pruned_predicted"]:
        ratio, kind = measured_ratio(latency), "measured"
        if not ratio:
            ratio, kind = latency["pruned_predicted"] / latency["dense_predicted"], "predicted"
        facts.append({"value": f"{1 / ratio:.2f} ×", "name": f"as fast as dense, {kind}"})
    cost = accuracy_cost(report.get("accuracy"))
    if cost:
        facts.append({"value": cost[0], "name": f"{report['accuracy']['metric']} against {cost[1]}"})
    for metric, name in (
        ("peak_ram_bytes", "of the dense peak RAM"),
        ("params", "of the parameters are left"),
    ):
        row = budgets.get(metric)
        if row and row["dense_predicted"] and row["pruned_predicted"] is not None:
            share = row["pruned_predicted"] / row["dense_predicted"]
            facts.append({"value": words.percent(share, 0), "name": name})
    return facts


def _strip(report: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    depth = report["depth"] or {}
    return strip_rows(report["layers"], {b["name"] for b in depth.get("branches", ()) if b["gone"]})


def _unowned(layers: list[dict[str, Any]], latency: Mapping[str, Any] | None) -> str:
    """Return a sentence about predicted time that is no layer's own (a cost per graph), if there is any."""
    if not layers or not latency or not latency["pruned_predicted"]:
        return ""
    rest = latency["pruned_predicted"] - sum(layer["pruned_latency_ms"] or 0.0 for layer in layers)
    if abs(rest) < 0.005 * latency["pruned_predicted"]:
        return ""
    whole, part = (words.figure(value, "ms") for value in (latency["pruned_predicted"], rest))
    return f"The whole pruned network is predicted at {whole}; {part} of it is no layer's own."


def _accuracy_rows(accuracy: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return one row a stage that was evaluated, with its sampling interval and distance to the control."""
    if not accuracy:
        return []
    names = {
        "base": "Base: the network as given",
        "control": "Control: dense, same fine-tuning",
        "at_cut": "Pruned, before fine-tuning",
        "pruned": "Pruned",
        "int8": "Pruned, int8",
    }
    headline = Headline.of(accuracy)
    reference = accuracy.get("control") if accuracy.get("control") is not None else accuracy.get("base")
    rows = []
    for key, name in names.items():
        value = accuracy.get(key)
        if value is None:
            continue
        against = "" if reference is None or key in ("base", "control") else headline.gap(value - reference)
        ends = interval_of(accuracy, key)
        interval = None if ends is None else f"{headline.text(ends[0], 1)} to {headline.text(ends[1], 1)}"
        rows.append({"name": name, "value": headline.text(value), "interval": interval, "against": against})
    return rows
