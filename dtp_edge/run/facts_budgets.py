"""Every budget and every cost beside it: asked, of the dense network, predicted, measured."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

from dtp_edge.cost.outside import is_notable
from dtp_edge.metrics import COUNTED, UNITS, quantity, title
from dtp_edge.profiles import Profile
from dtp_edge.run.delivery import Delivered
from dtp_edge.transport import Budget


def budget_rows(delivered: Delivered, budget: Budget) -> list[dict[str, Any]]:
    """Return a row a metric of the profile, and one for every keep ratio that was asked for."""
    cut, task = delivered.cut, delivered.cut.task
    network, cost, limits, asked = task.network, task.cost, task.limits, budget.texts()
    dense = cost.evaluate(cost.dense_sizes())
    final = cost.evaluate(network.layers.sizes(cut.keep.astype(float)))
    rows = []
    for metric in cost.metrics:
        limit = limits.get(metric)
        text = asked.get(metric) if limit is not None else None
        row = _row(metric, text, limit, dense[metric], final[metric])
        row["relative_error_of_profile"] = 0.0 if metric in COUNTED else None
        if metric == "latency_ms":
            known = not is_notable(cut.outside)  # the error is of networks like those measured
            row["relative_error_of_profile"] = cost.profile.error.median_relative if known else None
            row |= _measured(delivered.measured)
        if metric == "energy_mj":
            row["relative_error_of_profile"] = (
                None if is_notable(cut.outside) else _energy_error(cost.profile)
            )
        rows.append(row)
    for metric, (limit, whole, now) in task.keep_ratios(cut.keep).items():  # counts, of the network alone
        row = _row(metric, asked.get(metric), limit, whole, now)
        rows.append(row | {"relative_error_of_profile": 0.0})
    return rows


def _energy_error(profile: Profile) -> float | None:
    """Energy is time times power: their errors are independent."""
    error, power = profile.error.median_relative, profile.power
    return None if error is None or power is None else math.hypot(error, power.relative_spread)


def _row(metric: str, asked: str | None, limit: float | None, dense: float, pruned: float) -> dict[str, Any]:
    return {
        "metric": metric,
        "unit": UNITS[metric],
        "asked_text": asked,
        "limit": limit,
        "fits": None if limit is None else pruned <= limit,
        "dense_predicted": dense,
        "pruned_predicted": pruned,
    }


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
            "text": "dense and pruned timed in turns in one process" + _where(measured, " on"),
            **({"place": measured["place"]} if "place" in measured else {}),
        },
    }


def _where(measured: Mapping[str, Any], before: str = "", here: str = "") -> str:
    return f"{before} {measured['place']}" if "place" in measured else here


def slack(budgets: list[dict[str, Any]]) -> list[str]:
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


def _judged_on_few(delivered: Delivered) -> list[str]:
    """Say so where the int8 file could not read all that the network was judged on."""
    count, training = delivered.int8.get("judged_on"), delivered.cut.training
    if count is None or training is None:
        return []
    return [
        f"int8 was judged on {count} of {training.accuracy['n_test']} test samples: the others have other "
        "sizes than the file."
    ]


def warned(delivered: Delivered) -> list[str]:
    """Say so where no time could be taken, or one is above a budget that the prediction meets."""
    notes = [*_judged_on_few(delivered)]
    if delivered.untimed:
        return [*notes, f"The files were not timed: {delivered.untimed}"]
    limit, measured = delivered.cut.task.limits.get("latency_ms"), delivered.measured.get("pruned_ms")
    if limit is None or measured is None or measured <= limit:
        return notes
    where = _where(delivered.measured, " on", " here")
    return [
        *notes,
        f"Measured{where} just now: {measured:.3g} ms, above the budget of {limit:.3g} ms although the "
        "prediction fits. The profile errs or the machine is busy; measure it again with "
        "`dtp-edge profile measure`.",
    ]
