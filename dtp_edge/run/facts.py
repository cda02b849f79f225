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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dtp_edge
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import PrunableNetwork
from dtp_edge.measure.machine import cpu_model, ram_bytes
from dtp_edge.metrics import COUNTED, UNITS, quantity, title
from dtp_edge.profiles import Profile
from dtp_edge.report import SCHEMA_VERSION
from dtp_edge.run.facts_curves import curve_rows
from dtp_edge.run.facts_layers import layer_rows, memory_rows
from dtp_edge.run.facts_next import suggestions
from dtp_edge.run.facts_widths import OneWidth, group_rows

if TYPE_CHECKING:
    from dtp_edge.run.delivery import Delivery
    from dtp_edge.run.pipeline import RunContext
    from dtp_edge.run.task import Task

FILES = {
    "model.onnx": "the compact network, fp32, checked in ONNX Runtime",
    "model.int8.onnx": "the compact network, int8 (QDQ)",
    "model.safetensors": "weights of the compact network",
    "widths.json": "widths, kept channels and graph: dtp_edge.load_pruned reads it",
}
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxsim", "numpy")


def build(
    network: PrunableNetwork,
    keep: np.ndarray,
    cost: NetworkCost,
    limits: Mapping[str, float],
    *,
    delivery: Delivery,
    training: Any,
    context: RunContext,
    task: Task,
) -> dict[str, Any]:
    """Return the report of one run. Predictions, measurements and counts are named as such."""
    profile = cost.profile
    widths = OneWidth(network, keep, cost, task.caps())
    kept = task.kept(keep)
    limits = {**limits, **{metric: limit for metric, (limit, _, _) in kept.items()}}
    budgets = _budgets(network, keep, cost, limits, delivery, context) + _kept(kept, context)
    report = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "dtp_edge", "version": dtp_edge.__version__},
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "run": _run(training, context, profile.name),
        "model": _model(network, keep, cost, context),
        "device": _device(profile),
        "budgets": budgets,
        "accuracy": _accuracy(training, delivery),
        "layers": layer_rows(network, keep, cost),
        "groups": group_rows(widths),
        "memory": memory_rows(network, keep, cost, limits.get("peak_ram_bytes", profile.limits.ram_bytes)),
        "curves": curve_rows(training, network, cost, limits),
        "frozen": [{"name": f.name, "reason": f.reason} for f in network.frozen],
        "checks": [
            {"name": c.name, "passed": c.passed, "value": c.value, "limit": c.limit, "detail": c.detail}
            for c in delivery.checks
        ],
        "files": _files(delivery.stage),
        "warnings": context.warnings + _slack(budgets) + _warnings(delivery, limits),
    }
    return {**report, "suggestions": suggestions(report, widths, limits)}


def _call(context: RunContext, device: str) -> str:
    """The call that made a run from Python, as far as it can be written down, and the script it was in."""
    given = f"device={device!r}, budget=Budget({context.budget}), seed={context.seed}"
    script = "" if not sys.argv[0].endswith(".py") else f"python {shlex.join(sys.argv)}\n"
    return f"{script}dtp_edge.prune_for_device({context.model_name or 'model'}, ..., {given})"


def _run(training: Any, context: RunContext, device: str) -> dict[str, Any]:
    settings: dict[str, Any] = {"int8": context.int8, "dynamic_batch": context.dynamic_batch}
    recipe = getattr(training, "recipe", None)
    if recipe is not None:
        settings |= recipe
    return {
        "command": context.command or _call(context, device),
        "seed": context.seed,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "duration_s": context.seconds(),
        "mode": "trained" if training is not None else "one-shot",
        "data": getattr(context.data, "name", None),
        "machine": machine(),
        "settings": settings,
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


def _model(
    network: PrunableNetwork, keep: np.ndarray, cost: NetworkCost, context: RunContext
) -> dict[str, Any]:
    shapes = [
        {"name": name, "shape": [d.size for d in tensor.shape], "dtype": tensor.dtype}
        for name in network.layers.inputs
        if (tensor := network.layers.tensors.get(name)) is not None
    ]
    return {
        "name": context.model_name or type(network.module).__name__,
        "parameters": int(cost.evaluate(cost.dense_sizes())["params"]),
        "pruned_parameters": int(cost.evaluate(network.layers.sizes(keep.astype(float)))["params"]),
        "weights_sha256": context.dense_sha256 or None,
        "weights_from": context.model_source,
        "inputs": shapes,
    }


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


def _budgets(
    network: PrunableNetwork,
    keep: np.ndarray,
    cost: NetworkCost,
    limits: Mapping[str, float],
    delivery: Delivery,
    context: RunContext,
) -> list[dict[str, Any]]:
    dense = cost.evaluate(cost.dense_sizes())
    final = cost.evaluate(network.layers.sizes(keep.astype(float)))
    asked = {} if context.budget is None else context.budget.texts()
    rows = []
    for metric in cost.metrics:
        limit = limits.get(metric)
        row: dict[str, Any] = {
            "metric": metric,
            "unit": UNITS[metric],
            "asked_text": asked.get(metric) if limit is not None else None,
            "limit": limit,
            "fits": None if limit is None else final[metric] <= limit,
            "dense_predicted": dense[metric],
            "pruned_predicted": final[metric],
            "relative_error_of_profile": 0.0 if metric in COUNTED else None,
        }
        if metric == "latency_ms":
            row["relative_error_of_profile"] = cost.profile.error.median_relative
            row |= _measured(delivery.measured)
        rows.append(row)
    return rows


def _kept(kept: Mapping[str, tuple[float, float, float]], context: RunContext) -> list[dict[str, Any]]:
    """Return a row for every keep ratio that was asked for: counts, of the network alone."""
    asked = {} if context.budget is None else context.budget.texts()
    return [
        {
            "metric": metric,
            "unit": UNITS[metric],
            "asked_text": asked.get(metric),
            "limit": limit,
            "fits": now <= limit,
            "dense_predicted": dense,
            "pruned_predicted": now,
            "relative_error_of_profile": 0.0,
        }
        for metric, (limit, dense, now) in kept.items()
    ]


def _measured(measured: Mapping[str, Any]) -> dict[str, Any]:
    if not measured:
        return {}
    return {
        "dense_measured": measured["dense_ms"],
        "pruned_measured": measured["pruned_ms"],
        "measurement": {
            "runtime": measured["runtime"],
            "threads": measured["threads"],
            "repeats": measured["repeats"],
            "ratio": measured["ratio"],
            "ratio_low": measured["ratio_low"],
            "ratio_high": measured["ratio_high"],
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "text": "dense and pruned timed in turns in one process",
        },
    }


def _accuracy(training: Any, delivery: Delivery) -> dict[str, Any] | None:
    if training is None:
        return None
    return {
        "metric": "top-1 accuracy",
        "higher_is_better": True,
        **training.accuracy,
        "int8": delivery.int8.get("accuracy"),
        "split": "test set, read once; decisions were taken on a held-out part of the training data",
    }


def _files(stage: Path | None) -> list[dict[str, Any]]:
    if stage is None:
        return []
    return [
        {
            "path": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "what": FILES.get(path.name),
        }
        for path in sorted(stage.iterdir())
        if path.is_file() and not path.name.startswith("report.")
    ]


def _slack(budgets: list[dict[str, Any]]) -> list[str]:
    """Say so where every budget is at or above what the dense network costs: nothing had to go."""
    asked = [row for row in budgets if row["limit"] is not None]
    if not asked or any(row["limit"] < row["dense_predicted"] for row in asked):
        return []
    parts = [
        f"{title(r['metric'])} {quantity(r['metric'], r['limit'])} asked, the dense network takes "
        f"{quantity(r['metric'], r['dense_predicted'])}"
        for r in asked
    ]
    return [f"Nothing had to be pruned: {'; '.join(parts)}. A share is written with a percent sign: 50%."]


def _warnings(delivery: Delivery, limits: Mapping[str, float]) -> list[str]:
    limit, measured = limits.get("latency_ms"), delivery.measured.get("pruned_ms")
    if limit is None or measured is None or measured <= limit:
        return []
    return [
        f"Measured here just now: {measured:.3g} ms, above the budget of {limit:.3g} ms although the "
        "prediction fits. The profile errs or the machine is busy; measure it again with "
        "`dtp-edge profile measure`."
    ]
