"""The JSON Schema of a device profile, and the reading of a profile file as untrusted data.

The schema is code, so that it cannot drift from the loader; `hardware_profiles/schema.json` is its published
copy, which classes of msgspec or pydantic would describe a second time. Every unknown field is refused.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError, nearest
from dtp_edge.files import LARGEST, check_bounds, read_json

HINT = "hardware_profiles/schema.json says what a profile holds; `dtp-edge devices NAME --json` prints one."

SCHEMA_VERSION = 1
MAX_PROFILE_BYTES = 4 * 1024 * 1024
MAX_TABLE_ROWS, MAX_ROWS = 2_000, 20_000  # of one kernel family, whose rows solve one system; of all
_FAULTS = 20  # that are looked at for the one to tell
FAMILIES = (
    "conv1x1",
    "conv3x3",
    "conv",
    "depthwise",
    "grouped",
    "conv_transpose",
    "linear",
    "matmul",
    "norm",
    "elementwise",
    "pool",
    "layout",
    "resize",
    "softmax",
    "recurrent",
    "embedding",
)
# A key of "kernels" is a family, or one of its variants: "conv_plain", "elementwise.relu".
KERNEL_KEY = rf"^({'|'.join(FAMILIES)}|reorder_in|reorder_out)(_[a-z0-9]+)*(\.[a-z0-9_]+)?$"

_POSITIVE = {"type": "number", "minimum": 1 / LARGEST, "maximum": LARGEST}
_NON_NEGATIVE = {"type": "number", "minimum": 0, "maximum": LARGEST}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 4000}
_STEP = {"type": "integer", "minimum": 1, "maximum": 256}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_CHANNEL_STEP = _object((), in_channels=_STEP, out_channels=_STEP)
_SATURATION = _object((), in_channels=_NON_NEGATIVE, out_channels=_NON_NEGATIVE, pixels=_NON_NEGATIVE)
_OP_FACTOR = {"type": "object", "maxProperties": 200, "additionalProperties": _POSITIVE}

_RATES: dict[str, Any] = {
    "bytes_per_second": _POSITIVE,
    "weight_bytes_per_second": _POSITIVE,
    "overhead_ms": _NON_NEGATIVE,
    "channel_step": _CHANNEL_STEP,
    "saturation": _SATURATION,
    "op_factor": _OP_FACTOR,
    "source": _TEXT,
}
_ADDITIVE = _object(
    ("form", "bytes_per_second", "overhead_ms", "source"),
    form={"const": "additive"},
    macs_per_second=_POSITIVE,
    spill_bytes=_POSITIVE,
    spill_bytes_per_second=_POSITIVE,
    **_RATES,
)
_ANALYTICAL = _object(
    ("form", "macs_per_cycle", "clock_hz", "bytes_per_second", "overhead_ms", "source"),
    form={"const": "analytical"},
    macs_per_cycle=_POSITIVE,
    clock_hz=_POSITIVE,
    **_RATES,
)
_TABLE = _object(
    ("form", "columns", "rows", "base", "source"),
    form={"const": "table"},
    columns={"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 32},
    rows={
        "type": "array",
        "items": {"type": "array", "items": {"type": "number"}, "maxItems": 32},
        "minItems": 1,
        "maxItems": MAX_TABLE_ROWS,
    },
    base={"type": "object"},
    channel_step=_CHANNEL_STEP,
    op_factor=_OP_FACTOR,
    source=_TEXT,
)


_REQUIRED = (
    "schema_version",
    "name",
    "device",
    "runtime",
    "precision",
    "threads",
    "limits",
    "memory_bytes_per_second",
    "kernels",
    "fusion",
    "graph_overhead_ms",
    "provenance",
    "error",
)
_KERNEL = {
    "type": "object",
    "required": ["form"],
    "properties": {"form": {"enum": ["additive", "analytical", "table"]}},
    "allOf": [
        {
            "if": {"properties": {"form": {"const": name}}, "required": ["form"]},
            "then": {"$ref": f"#/$defs/{name}"},
        }
        for name in ("additive", "analytical", "table")
    ],
}
_FUSION = _object(
    ("norm", "activations", "add"),
    norm={"type": "boolean"},
    activations={"type": "array", "items": _TEXT, "maxItems": 100},
    add={"type": "boolean"},
    elementwise_activations={"type": "boolean"},
    norm_is_convolution={"type": "boolean"},
    activation_ns_per_value={
        "type": "object",
        "maxProperties": 50,
        "additionalProperties": _NON_NEGATIVE,
    },
)
_BLOCK = {"type": "integer", "minimum": 1, "maximum": 64}
_LAYOUT = _object(
    ("kind", "block", "align"), kind={"const": "blocked"}, block={**_BLOCK, "minimum": 2}, align=_BLOCK
)
_MEMORY = _object(
    (),
    in_place={"type": "boolean"},
    arena_bytes=_NON_NEGATIVE,
    flash_overhead_bytes=_NON_NEGATIVE,
    notes=_TEXT,
)
_POWER = _object(
    ("watts", "relative_spread", "source"), watts=_POSITIVE, relative_spread=_NON_NEGATIVE, source=_TEXT
)
_PROVENANCE = _object(
    ("source", "licence", "date", "how"),
    source=_TEXT,
    url=_TEXT,
    licence=_TEXT,
    date=_TEXT,
    how=_TEXT,
    spread=_TEXT,
    recipe=_TEXT,
    reference_ms=_POSITIVE,
    facts=_TEXT,
)
_ERROR = _object(
    ("status", "how"),
    status={"enum": ["measured", "fitted", "indicative", "analytical"]},
    median_relative=_NON_NEGATIVE,
    p90_relative=_NON_NEGATIVE,
    n={"type": "integer", "minimum": 0},
    how=_TEXT,
    notes=_TEXT,
)


def profile_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a device profile."""
    body = _object(
        _REQUIRED,
        schema_version={"const": SCHEMA_VERSION},
        name={"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,79}$"},
        description=_TEXT,
        device=_object(
            ("name", "chip", "cores", "clock_mhz"),
            name=_TEXT,
            chip=_TEXT,
            cores=_TEXT,
            clock_mhz=_POSITIVE,
            kind={"enum": ["cpu", "gpu", "npu"]},
            vendor=_TEXT,
        ),
        runtime=_object(("name", "version"), name=_TEXT, version=_TEXT),
        precision={"enum": ["fp32", "fp16", "int8", "w8a8", "w8a16"]},
        threads={"type": "integer", "minimum": 1, "maximum": 1024},
        limits=_object((), ram_bytes=_POSITIVE, flash_bytes=_POSITIVE),
        memory_bytes_per_second=_POSITIVE,
        kernels={
            "type": "object",
            "minProperties": 1,
            "maxProperties": 200,
            "propertyNames": {"pattern": KERNEL_KEY},
            "additionalProperties": _KERNEL,
        },
        fusion=_FUSION,
        layout=_LAYOUT,
        weight_cache=_object(("bytes", "bytes_per_second"), bytes=_POSITIVE, bytes_per_second=_POSITIVE),
        memory=_MEMORY,
        power=_POWER,
        graph_overhead_ms=_NON_NEGATIVE,
        input_ns_per_value=_NON_NEGATIVE,
        provenance=_PROVENANCE,
        error=_ERROR,
    )
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dtp_edge device profile",
        "description": "How long each kernel takes on one device, runtime, precision and thread count.",
    }
    return {**head, **body, "$defs": {"additive": _ADDITIVE, "analytical": _ANALYTICAL, "table": _TABLE}}


def read_profile_json(path: Path) -> dict[str, Any]:
    """Read one profile file, bounded; `parse_profile` says if it holds a profile. Raises `InputError`."""
    return read_json(path, most_bytes=MAX_PROFILE_BYTES, hint=HINT)


def validate_document(document: Any, *, where: str) -> None:
    """Raise `InputError` naming `where` and the JSON path of the deepest of the first few bad fields."""
    from jsonschema import Draft202012Validator  # slow to import, and only wanted here

    if not isinstance(document, dict):
        raise InputError("a profile is a JSON object", where=f"{where}: $", hint=HINT)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise InputError(
            f"schema version {repr(version)[:60]} is unknown; this version reads {SCHEMA_VERSION}",
            where=f"{where}: $.schema_version",
            hint="Install a newer dtp_edge, or make the profile again with `dtp-edge profile`.",
        )
    check_bounds(document, where=where, hint=HINT)
    seen = _without_rows(document, where)
    errors = itertools.islice(Draft202012Validator(profile_schema()).iter_errors(seen), _FAULTS)
    worst = min(errors, key=_depth, default=None)
    if worst is not None:
        raise InputError(_explain(worst), where=f"{where}: {worst.json_path}", hint=HINT)


def _without_rows(document: dict[str, Any], where: str) -> dict[str, Any]:
    """Check the rows of all tables, and return the document with one row each: a schema would look at every
    number by itself, which takes a hundred times as long."""
    kernels = document.get("kernels")
    if not isinstance(kernels, dict):
        return document
    short, total = {}, 0
    for family, kernel in kernels.items():
        short[family] = kernel
        rows = kernel.get("rows") if isinstance(kernel, dict) else None
        if isinstance(rows, list) and rows:
            total += len(rows)
            _check_rows(rows, kernel.get("columns"), f"{where}: $.kernels.{family}.rows", total)
            short[family] = {**kernel, "rows": rows[:1]}
    return {**document, "kernels": short}


def _check_rows(rows: list[Any], columns: Any, path: str, total: int) -> None:
    if len(rows) > MAX_TABLE_ROWS or total > MAX_ROWS:
        what = (
            f"{len(rows)} rows, {total} with those before; at most {MAX_TABLE_ROWS} and {MAX_ROWS} are read"
        )
        raise InputError(what, where=path, hint="A few hundred points a kernel family are enough.")
    width = len(columns) if isinstance(columns, list) else 0
    for index, row in enumerate(rows):
        if not isinstance(row, list) or not all(type(value) in (int, float) for value in row):
            raise InputError("is not a row of numbers", where=f"{path}[{index}]", hint=HINT)
        if len(row) != width:
            raise InputError(f"{len(row)} numbers for {width} columns", where=f"{path}[{index}]", hint=HINT)


def _depth(error: Any) -> tuple[int, str]:
    return -len(error.absolute_path), error.json_path


def _explain(error: Any) -> str:
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        bad = [key for key in error.instance if key not in known]
        close = nearest(bad[0][:100], known, 1) if bad else []
        return f"unknown field {bad[0][:100]!r}" + (f"; is it {close[0]!r}?" if close else "")
    if error.validator in ("exclusiveMinimum", "minimum"):
        return f"{error.instance!r} is too small: {error.message}"
    return error.message[:300]
