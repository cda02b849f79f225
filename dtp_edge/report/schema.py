"""The shape of report.json: a published JSON Schema, and the check that a report follows it."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match

from dtp_edge.errors import InputError
from dtp_edge.files import Bounds, read_json
from dtp_edge.report.upgrade import upgraded

SCHEMA_VERSION = "1.4"
MAX_REPORT_BYTES = 32 * 2**20
_BOUNDS = Bounds(values=2_000_000, keys=20_000, text=100_000)  # pictures are texts
_FAULTS = 20  # that are looked at for the best one to tell

REPORT_SCHEMA: dict[str, Any] = json.loads(
    resources.files("dtp_edge.report").joinpath("schema.json").read_text(encoding="utf-8")
)


def plain(value: Any) -> Any:
    """Return `value` in plain JSON types.

    Numpy scalars and arrays become numbers and lists, paths become text, and a number that is not
    finite becomes None: JSON has no name for it, and "no figure" is what it means to a reader.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, and tensors
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Path):
        return value.as_posix()
    raise InputError(
        f"a report cannot hold a {type(value).__name__}", hint="Give numbers, text, lists, dicts."
    )


def validate_report(report: Any, *, where: str | None = None) -> None:
    """Check `report` against `REPORT_SCHEMA`.

    Raises InputError that names the first fault by its JSON path, for example `$.layers[3].dense_macs`.
    """
    validator = jsonschema.Draft202012Validator(REPORT_SCHEMA)
    fault = best_match(itertools.islice(validator.iter_errors(report), _FAULTS))
    if fault is None:
        return
    place = f"{where}: {fault.json_path}" if where else fault.json_path
    raise InputError(
        _short(fault.message),
        where=place,
        hint=f"A report has schema version {SCHEMA_VERSION}; see dtp_edge/report/schema.json.",
    )


def filled(value: Any, schema: Mapping[str, Any] = REPORT_SCHEMA) -> Any:
    """Return a valid report with every absent optional field present: an empty list, or None."""
    if value is None:
        return None
    schema = next((s for s in schema.get("anyOf", ()) if s.get("type") != "null"), schema)
    if isinstance(value, dict) and "properties" in schema:
        absent = {k: [] if s.get("type") == "array" else None for k, s in schema["properties"].items()}
        return {**absent, **{k: filled(v, schema["properties"].get(k, {})) for k, v in value.items()}}
    if isinstance(value, list) and "items" in schema:
        return [filled(item, schema["items"]) for item in value]
    return value


def read_report(path: str | Path) -> dict[str, Any]:
    """Read and check a report.json, given by its path or by the output folder that holds it.

    One of an older version is given in the fields of this one.

    Raises InputError if it is missing, too large, not JSON, or does not follow the schema.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "report.json"
    hint = "Give the --out folder of a run."
    if not os.path.lexists(path):
        raise InputError("there is no report here", where=str(path), hint=hint)
    report = upgraded(read_json(path, most_bytes=MAX_REPORT_BYTES, hint=hint, bounds=_BOUNDS))
    validate_report(report, where=str(path))
    return report


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit // 2] + " ... " + text[-limit // 2 :]
