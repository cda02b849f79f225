"""The facts of a run as the plain dictionary that report.json holds; see dtp_edge/report/schema.json."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from dataclasses import asdict
from typing import Any

import dtp_edge
from dtp_edge.graph.part import Whole
from dtp_edge.measure.machine import cpu_model, ram_bytes
from dtp_edge.profiles import Profile
from dtp_edge.report import SCHEMA_VERSION
from dtp_edge.run.calibrated import Calibrated
from dtp_edge.run.delivery import Delivered
from dtp_edge.run.example_pictures import example_pictures
from dtp_edge.run.facts_branches import branch_facts
from dtp_edge.run.facts_budgets import budget_rows, slack, warned
from dtp_edge.run.facts_curves import curve_rows
from dtp_edge.run.facts_formats import failed, format_rows
from dtp_edge.run.facts_layers import layer_rows, memory_rows
from dtp_edge.run.facts_next import suggestions
from dtp_edge.run.facts_widths import OneWidth, group_rows
from dtp_edge.run.options import Options
from dtp_edge.run.proved import Cut

PACKAGES = ("torch", "onnx", "onnxruntime", "onnxsim", "numpy")


def facts_of(delivered: Delivered, options: Options, *, seconds: float) -> dict[str, Any]:
    """Return the report of one run. Predictions, measurements and counts are named as such."""
    cut, task = delivered.cut, delivered.cut.task
    network, cost, keep = task.network, task.cost, cut.keep
    widths = OneWidth(network, keep, cost, task.caps())
    limits = task.limits | {metric: limit for metric, (limit, _, _) in task.keep_ratios(keep).items()}
    budgets = budget_rows(delivered, options.budget)
    report = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "dtp_edge", "version": dtp_edge.__version__},
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "run": _run(cut, options, seconds),
        "model": _model(cut, options),
        "device": _device(cost.profile) | {"outside": [asdict(one) for one in cut.outside]},
        "budgets": budgets,
        "accuracy": _accuracy(delivered),
        "layers": layer_rows(network, keep, cost),
        "groups": group_rows(widths),
        "memory": memory_rows(
            network, keep, cost, limits.get("peak_ram_bytes", cost.profile.limits.ram_bytes)
        ),
        "curves": curve_rows(cut.training, network, cost, limits),
        "frozen": [{"name": f.name, "code": str(f.code), "reason": f.reason} for f in network.frozen],
        "checks": [
            {"name": c.name, "passed": c.passed, "value": c.value, "limit": c.limit, "detail": c.detail}
            for c in delivered.checks
        ],
        "files": list(delivered.files),
        "warnings": [
            *options.origin.warnings,
            *delivered.cut.warnings,
            *slack(budgets),
            *warned(delivered),
            *failed(delivered),
        ],
    }
    if options.drops_branches:
        report["depth"] = branch_facts(network, keep, cost, cut.rises)
    if options.data is not None and options.out is not None:
        report["pictures"], said = example_pictures(cut, options.data)
        report["warnings"] += said
    if cut.calibration is not None:
        report["calibration"] = _calibration(cut.calibration, delivered)
    if "trials" in delivered.int8:
        report["int8"] = _int8(delivered.int8)
    if delivered.formats:
        report["formats"] = format_rows(delivered)
    return {**report, "suggestions": suggestions(report, widths, limits)}


def _int8(found: dict[str, Any]) -> dict[str, Any]:
    """How the int8 file came to be, and what each layer's rounding costs alone where that was looked at."""
    kept = ("method", "how", "float_layers", "left_in_float", "trials", "wanted_holdout", "training")
    kept = (*kept, "sensitivity")
    return {"accuracy": found["accuracy"], "fp32_accuracy": found["fp32_accuracy"]} | {
        k: found[k] for k in kept
    }


def _call(cut: Cut, options: Options) -> str:
    """The call that made a run from Python, as far as it can be written down, and the script it was in."""
    device = cut.task.cost.profile.name
    given = f"device={device!r}, budget=Budget({options.budget}), seed={options.seed}"
    script = "" if not sys.argv[0].endswith(".py") else f"python {shlex.join(sys.argv)}\n"
    return f"{script}dtp_edge.prune_for_device({options.origin.model_name or 'model'}, ..., {given})"


def _run(cut: Cut, options: Options, seconds: float) -> dict[str, Any]:
    settings: dict[str, Any] = {"int8": options.int8, "dynamic_batch": options.dynamic_batch}
    return {
        "command": options.origin.command or _call(cut, options),
        "seed": options.seed,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "duration_s": seconds,
        "parts_s": {} if cut.training is None else cut.training.seconds,
        "mode": _mode(cut),
        "data": cut.calibration.inputs.name
        if cut.calibration
        else None
        if options.data is None
        else options.data.name,
        "machine": machine(),
        "settings": settings if cut.training is None else settings | cut.training.recipe,
    }


def _mode(cut: Cut) -> str:
    if cut.calibration is not None:
        return "calibrated"
    return "one-shot" if cut.training is None else "trained"


def _calibration(found: Calibrated, delivered: Delivered) -> dict[str, Any]:
    """What calibration did, and how near the outputs are to the dense network's on inputs that took no
    part."""
    return {
        "samples": found.inputs.samples,
        "held_out": found.inputs.judges,
        "output_error": found.output_error,
        "agreement": found.agreement,
        "int8_method": delivered.int8.get("method"),
        "layers_fitted": found.fitted,
        "layers": found.layers,
        "seconds": found.seconds,
    }


def machine() -> dict[str, Any]:
    """Return what this machine is: os, processor, cores, memory, Python."""
    return {
        "os": platform.platform(terse=True),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": ram_bytes(),
        "python": platform.python_version(),
    }


def _model(cut: Cut, options: Options) -> dict[str, Any]:
    network, cost = cut.task.network, cut.task.cost
    shapes = [
        {"name": name, "shape": [d.size for d in tensor.shape], "dtype": tensor.dtype}
        for name in network.layers.inputs
        if (tensor := network.layers.tensors.get(name)) is not None
    ]
    return {
        "name": options.origin.model_name or type(network.module).__name__,
        "parameters": int(cost.evaluate(cost.dense_sizes())["params"]),
        "pruned_parameters": int(cost.evaluate(network.layers.sizes(cut.keep.astype(float)))["params"]),
        "weights_sha256": cut.task.dense_sha256 or None,
        "weights_from": options.origin.weights_from,
        "inputs": shapes,
        **_around(cut.task.whole),
    }


def _around(whole: Whole | None) -> dict[str, Any]:
    """Return what to say of the network around a part, nothing where there is none."""
    if whole is None:
        return {}
    return {"part": whole.path, "rest_parameters": sum(p.numel() for p in whole.rest_parameters())}


def _device(profile: Profile) -> dict[str, Any]:
    text = json.dumps(profile.document, sort_keys=True).encode()
    status = profile.error.status
    limits, source = profile.limits, profile.provenance
    return {
        "name": profile.name,
        "title": profile.device.name,
        "chip": profile.device.chip,
        "runtime": profile.runtime.name,
        "runtime_version": profile.runtime.version,
        "precision": profile.precision,
        "threads": profile.threads,
        "provenance": "measured" if status == "measured" else "derived",
        "provenance_text": f"{source.source} ({source.date}): {source.how}",
        "relative_error": profile.error.median_relative,
        "error_text": profile.error.text(),
        "profile_sha256": hashlib.sha256(text).hexdigest(),
        "ram_bytes": None if limits.ram_bytes is None else int(limits.ram_bytes),
        "flash_bytes": None if limits.flash_bytes is None else int(limits.flash_bytes),
    }


def _accuracy(delivered: Delivered) -> dict[str, Any] | None:
    training = delivered.cut.training
    if training is None:
        return None
    headline = training.objective.headline
    return {
        "metric": headline.name,
        "unit": headline.unit,
        "decimals": headline.decimals,
        "higher_is_better": headline.higher_is_better,
        **training.accuracy,
        "int8": delivered.int8.get("accuracy"),
        "intervals": {name: list(ends) for name, ends in training.intervals.items()},
        "why_no_interval": None if training.intervals else training.why_no_interval or None,
        "split": "test set, read once; decisions were taken on a held-out part of the training data",
    }
