"""A recipe's fields as text, KEY=VALUE: what the command line can change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, get_type_hints

from dtp_edge.errors import InputError, nearest
from dtp_edge.training.recipe import Recipe

_RATES = ("base_learning_rate", "mask_learning_rate", "tune_learning_rate")


def settable() -> list[str]:
    """Names that KEY may have: all fields but the seed, and `learning_rate` for all phases at once."""
    return ["learning_rate", *(f.name for f in fields(Recipe) if f.name != "seed")]


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` texts into arguments of `dataclasses.replace`; later ones take precedence.

    `none` is a value of the fields that may be absent. Raises `InputError` for an unknown key or a value
    of another type; what a value may be is checked by the recipe itself.
    """
    kinds = get_type_hints(Recipe)
    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if key not in settable():
            near = nearest(key, settable())
            hint = f"Did you mean {', '.join(near)}?" if near else f"There are {', '.join(settable())}."
            raise InputError(f"the recipe has no '{key}'", where=f"--set {text}", hint=hint)
        if not equals or not value:
            raise InputError("the value is missing", where=f"--set {text}", hint=f"Write {key}=VALUE.")
        names = _RATES if key == "learning_rate" else (key,)
        changes |= {name: _value(value, kinds[name], text) for name in names}
    return changes


def _value(text: str, kind: Any, where: str) -> Any:
    options = getattr(kind, "__args__", (kind,))
    if type(None) in options and text.lower() == "none":
        return None
    wanted = options[0]
    try:
        if wanted is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        return wanted(text)
    except (ValueError, KeyError):
        words = {int: ("a whole number", "8"), float: ("a number", "0.1"), bool: ("yes or no", "yes")}
        word, example = words.get(wanted, ("a word", "none"))
        raise InputError(
            f"'{text}' is not {word}",
            where=f"--set {where}",
            hint=f"For example {where.partition('=')[0]}={example}.",
        ) from None
