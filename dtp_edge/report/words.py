"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dtp_edge.metrics import NONE, digits, duration, figure, title

__all__ = ["digits", "figure", "metric_title", "seconds"]
seconds = duration


def metric_title(metric: str) -> str:
    name = title(metric)
    return name[:1].upper() + name[1:]


def fact(key: str, value: object) -> str:
    """Return one entry of a free table (machine, settings) as `key: value`, bytes as people read them."""
    if key.endswith("_bytes") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{key.removesuffix('_bytes')}: {figure(value, 'bytes')}"
    return f"{key.replace('_', ' ')}: {value}"


def layer_name(layer: Mapping[str, Any], shared: Mapping[str | None, int]) -> str:
    """Return what a person calls a layer: its module, with the operator where several share the module."""
    name, module = layer["name"], layer.get("module")
    if not module or module == name:
        return name
    alone = shared.get(module) == 1 and not layer.get("fused_into")
    return module if alone else f"{module} {name}"


def percent(fraction: float | None, places: int = 1) -> str:
    return NONE if fraction is None else f"{100 * fraction:.{places}f} %"


def sentence(text: str) -> str:
    """Return `text` with a capital first letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def shape(dims: list[int] | None) -> str:
    return NONE if dims is None else " × ".join(str(d) for d in dims)


def short(text: str, limit: int = 40) -> str:
    """Return `text` cut in the middle to at most `limit` characters."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return text[:head] + "…" + text[len(text) - (limit - 1 - head) :]
