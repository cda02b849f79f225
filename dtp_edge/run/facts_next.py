"""What to try next, from the numbers of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dtp_edge.metrics import Headline, quantity, title
from dtp_edge.run.facts_widths import OneWidth

MOST = 8  # sentences that a reader takes in
SLOW_SHARE = 0.25  # a layer with more of the time than this is worth a sentence
SPARE = 0.03  # a budget with more than this share unused is worth one too
DROP = 0.01  # of a headline: what is worth a word
NOT_WIDENED = ("output", "excluded")  # the answer itself, and what the user wants whole


def suggestions(report: Mapping[str, Any], widths: OneWidth, limits: Mapping[str, float]) -> list[str]:
    """Return sentences on what to do next; `report` has everything but this field."""
    texts = [
        *_accuracy(report),
        *_free(widths, limits),
        *_spare(report),
        *_slowest(report["layers"]),
        *_peak(report, limits),
        *_frozen(report["frozen"]),
        *_unsure(report),
    ]
    return texts[:MOST]


def _free(widths: OneWidth, limits: Mapping[str, float]) -> list[str]:
    free = [(widths.free_atoms(g, limits) * g.channels_per_atom, g.name) for g in widths.groups]
    found = sorted((pair for pair in free if pair[0]), reverse=True)
    texts = [
        f"{_channels(n)} in {name} cost nothing on this device, and every budget holds."
        for n, name in found[:3]
    ]
    if len(found) > 3:
        rest = ", ".join(f"{name} ({n})" for n, name in found[3:8])
        texts.append(f"So are more in {rest}{' and others' if len(found) > 8 else ''}.")
    return texts


def _channels(count: int) -> str:
    return f"{count} more channel{'' if count == 1 else 's'}"


def _spare(report: Mapping[str, Any]) -> list[str]:
    """Name the budget that decided where another one is far from used up."""
    asked = [row for row in report["budgets"] if row["limit"]]
    used = {row["metric"]: row["pruned_predicted"] / row["limit"] for row in asked}
    if not used or max(used.values()) > 1:
        return []
    tight = max(used, key=used.__getitem__)
    if used[tight] < 1 - SPARE:
        room = 100 * (1 - used[tight])
        more = " More epochs may use it." if report["accuracy"] else ""
        return [f"The budget is not used up: {room:.0f} % of the {title(tight)} is left.{more}"]
    loose = [m for m, share in used.items() if share < 1 - SPARE]
    if not loose:
        return []
    names = ", ".join(f"{title(m)} ({100 * used[m]:.0f} % used)" for m in loose)
    return [f"{title(tight).capitalize()} decides; there is room in {names}."]


def _slowest(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    whole = sum(row["pruned_latency_ms"] or 0.0 for row in layers)
    if not whole:
        return []
    top = max(layers, key=lambda row: row["pruned_latency_ms"] or 0.0)
    share = top["pruned_latency_ms"] / whole
    if share < SLOW_SHARE or len(layers) < 4:
        return []
    return [
        f"{top['module'] or top['name']} alone takes {100 * share:.0f} % of the pruned time "
        f"({quantity('latency_ms', top['pruned_latency_ms'])}): a larger stride or a smaller input there "
        "is worth more than pruning."
    ]


def _peak(report: Mapping[str, Any], limits: Mapping[str, float]) -> list[str]:
    schedule = report["memory"]["pruned"]
    if "peak_ram_bytes" not in limits or not schedule:
        return []
    module = {row["name"]: row["module"] for row in report["layers"]}
    top = max(schedule, key=lambda point: point["live_bytes"])
    name = module.get(top["layer"]) or top["layer"]
    return [
        f"Peak RAM is reached at {name} ({quantity('peak_ram_bytes', top['live_bytes'])}): only its width, "
        "that of its neighbours or the size of the input can lower it."
    ]


def _accuracy(report: Mapping[str, Any]) -> list[str]:
    accuracy = report["accuracy"]
    if accuracy is None:
        return [
            "Nothing was trained: run again with --data, or fine-tune the compact network before you ship it."
        ]
    texts, headline = [], Headline.of(accuracy)
    control, pruned = accuracy.get("control"), accuracy.get("pruned")
    reference = accuracy.get("base") if control is None else control
    int8, at_cut = accuracy.get("int8"), accuracy.get("at_cut")

    def lost(before: float | None, after: float | None, share: float = DROP) -> float | None:
        """Return what went, if it is more than a share: of a whole, of other units of what there was."""
        if before is None or after is None:
            return None
        gap = headline.worth(before) - headline.worth(after)
        return gap if gap > share * (1.0 if headline.unit == "%" else abs(before)) else None

    def told(gap: float) -> str:
        return headline.gap(gap).lstrip("+")

    if (gap := lost(reference, pruned)) is not None:
        texts.append(f"{told(gap)} are lost against the dense control: more --epochs, or a larger budget.")
    masks = any(row["phase"] == "masks" for row in report["curves"])
    if masks and lost(pruned, at_cut, 0.2) is not None:
        texts.append("Fine-tuning repaired much after the cut: more epochs for the masks would cut better.")
    if (gap := lost(pruned, int8)) is not None:
        texts.append(f"int8 costs {told(gap)}: calibrate on more samples, and on more typical ones.")
    return texts


def _frozen(frozen: Sequence[Mapping[str, str]]) -> list[str]:
    """Only what another operator would let be pruned."""
    parts = [f for f in frozen if f["code"] not in NOT_WIDENED]
    if not parts:
        return []
    shown = ", ".join(f["name"] for f in parts[:3]) + (" and others" if len(parts) > 3 else "")
    return [f"{shown} could not be pruned (see Left alone): another operator there widens the choice."]


def _unsure(report: Mapping[str, Any]) -> list[str]:
    device, latency = report["device"], next(r for r in report["budgets"] if r["metric"] == "latency_ms")
    if latency["limit"] is None or latency.get("pruned_measured") is not None:
        return []
    return [
        f"The latency is a prediction: time model.onnx on {device['title'] or device['name']}, or measure "
        "its kernels once with `dtp-edge profile kit`."
    ]
