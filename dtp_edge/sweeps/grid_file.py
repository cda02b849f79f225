"""A sweep in a TOML file: `devices`, `[[budgets]]`, `[recipes.NAME]`."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match

from dtp_edge.errors import InputError
from dtp_edge.files import check_bounds, read_text
from dtp_edge.transport import Budget

__all__ = ["read_grid"]

MOST_BYTES = 2**20
_NAMES = [field.name for field in fields(Budget) if field.name != "layer_keep"]
_AMOUNT = {"type": ["string", "number"]}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "devices": {"type": "array", "items": {"type": "string"}, "maxItems": 1000},
        "budgets": {
            "type": "array",
            "maxItems": 1000,
            "items": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": False,
                "properties": {
                    **dict.fromkeys(_NAMES, _AMOUNT),
                    "layer_keep": {"anyOf": [_AMOUNT, {"type": "object", "additionalProperties": _AMOUNT}]},
                },
            },
        },
        "recipes": {
            "type": "object",
            "maxProperties": 100,
            "propertyNames": {"pattern": "^[A-Za-z0-9_.-]{1,40}$"},
            "additionalProperties": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
        },
    },
}
_HINT = 'devices = ["NAME", …], [[budgets]] with latency = "50%", [recipes.NAME] with epochs = 10.'


def read_grid(path: Path) -> dict[str, Any]:
    """Return `{devices, budgets, recipes}` of a file, each only if it is there. Raises `InputError`."""
    text = read_text(path, most_bytes=MOST_BYTES, hint=_HINT)
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"is not valid TOML: {str(error)[:200]}", where=str(path), hint=_HINT) from error
    check_bounds(document, where=str(path), hint=_HINT)
    fault = best_match(jsonschema.Draft202012Validator(SCHEMA).iter_errors(document))
    if fault is not None:
        place = fault.json_path.removeprefix("$.")
        raise InputError(fault.message[:200], where=f"{path}: {place}", hint=_HINT)
    return document
