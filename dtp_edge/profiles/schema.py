"""The JSON Schema of a device profile, and the reading of a profile file as untrusted data.

The schema is code so that it cannot drift from the loader; `hardware_profiles/schema.json` is its
published copy (a test holds the two equal). Every quantity has its unit in its name, and no unknown
field passes: a missing unit ("clock" for "clock_mhz") is therefore refused by name.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dtp_edge.errors import InputError, nearest

HINT = "hardware_profiles/schema.json says what a profile holds; `dtp-edge devices NAME --json` prints one."

SCHEMA_VERSION = 1
MAX_PROFILE_BYTES = 4 * 1024 * 1024
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

_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_NON_NEGATIVE = {"type": "number", "minimum": 0}
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

_ADDITIVE = _object(
    ("form", "bytes_per_second", "overhead_ms", "source"),
    form={"const": "additive"},
    macs_per_second=_POSITIVE,
    bytes_per_second=_POSITIVE,
    weight_bytes_per_second=_POSITIVE,
    spill_bytes=_POSITIVE,
    spill_bytes_per_second=_POSITIVE,
    overhead_ms=_NON_NEGATIVE,
    channel_step=_CHANNEL_STEP,
    saturation=_SATURATION,
    op_factor=_OP_FACTOR,
    source=_TEXT,
)
_ANALYTICAL = _object(
    ("form", "macs_per_cycle", "clock_hz", "bytes_per_second", "overhead_ms", "source"),
    form={"const": "analytical"},
    macs_per_cycle=_POSITIVE,
    clock_hz=_POSITIVE,
    bytes_per_second=_POSITIVE,
    weight_bytes_per_second=_POSITIVE,
    overhead_ms=_NON_NEGATIVE,
    channel_step=_CHANNEL_STEP,
    saturation=_SATURATION,
    op_factor=_OP_FACTOR,
    source=_TEXT,
)
_TABLE = _object(
    ("form", "columns", "rows", "base", "source"),
    form={"const": "table"},
    columns={"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 32},
    rows={
        "type": "array",
        "items": {"type": "array", "items": {"type": "number"}, "maxItems": 32},
        "minItems": 1,
        "maxItems": 20_000,
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
_LAYOUT = _object(
    ("kind", "block", "align"),
    kind={"const": "blocked"},
    block={"type": "integer", "minimum": 2, "maximum": 64},
    align={"type": "integer", "minimum": 1, "maximum": 64},
)
_MEMORY = _object(
    (),
    in_place={"type": "boolean"},
    arena_bytes=_NON_NEGATIVE,
    flash_overhead_bytes=_NON_NEGATIVE,
    notes=_TEXT,
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
            ("name", "chip", "cores", "clock_mhz"), name=_TEXT, chip=_TEXT, cores=_TEXT, clock_mhz=_POSITIVE
        ),
        runtime=_object(("name", "version"), name=_TEXT, version=_TEXT),
        precision={"enum": ["fp32", "fp16", "int8", "w8a8", "w8a16"]},
        threads={"type": "integer", "minimum": 1, "maximum": 1024},
        limits=_object((), ram_bytes=_POSITIVE, flash_bytes=_POSITIVE),
        memory_bytes_per_second=_POSITIVE,
        kernels={
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": KERNEL_KEY},
            "additionalProperties": _KERNEL,
        },
        fusion=_FUSION,
        layout=_LAYOUT,
        weight_cache=_object(("bytes", "bytes_per_second"), bytes=_POSITIVE, bytes_per_second=_POSITIVE),
        memory=_MEMORY,
        graph_overhead_ms=_NON_NEGATIVE,
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
    """Read, bound and validate one profile file. Raises `InputError` with the JSON path at fault."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError("a profile is one JSON file", where=str(path), hint=HINT)
        if size > MAX_PROFILE_BYTES:
            raise InputError(
                f"the file has {size} bytes; a profile has at most {MAX_PROFILE_BYTES}",
                where=str(path),
                hint="Thin the measured tables out: a few hundred points a kernel family are enough.",
            )
        document = json.loads(path.read_bytes(), object_pairs_hook=_no_duplicates)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), hint=HINT) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not valid JSON: {error}", where=str(path), hint=HINT) from error
    validate_document(document, where=str(path))
    return document


def validate_document(document: Any, *, where: str) -> None:
    """Raise `InputError` naming `where` and the JSON path of the first bad field."""
    from jsonschema import Draft202012Validator  # slow to import, and only wanted here

    if not isinstance(document, dict):
        raise InputError("a profile is a JSON object", where=f"{where}: $", hint=HINT)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise InputError(
            f"schema version {version!r} is unknown; this version reads {SCHEMA_VERSION}",
            where=f"{where}: $.schema_version",
            hint="Install a newer dtp_edge, or make the profile again with `dtp-edge profile`.",
        )
    _refuse_non_finite(document, "$", where)
    errors = sorted(Draft202012Validator(profile_schema()).iter_errors(document), key=_depth)
    if errors:
        raise InputError(_explain(errors[0]), where=f"{where}: {errors[0].json_path}", hint=HINT)
    _check_tables(document, where)


def _depth(error: Any) -> tuple[int, str]:
    return -len(error.absolute_path), error.json_path


def _explain(error: Any) -> str:
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        bad = [key for key in error.instance if key not in known]
        close = nearest(str(bad[0]), known, 1) if bad else []
        return f"unknown field {bad[0]!r}" + (f"; is it {close[0]!r}?" if close else "")
    if error.validator in ("exclusiveMinimum", "minimum"):
        return f"{error.instance!r} is too small: {error.message}"
    return error.message[:300]


def _refuse_non_finite(value: Any, path: str, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{value} is not a finite number", where=f"{where}: {path}", hint=HINT)
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{path}.{key}", where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{path}[{index}]", where)


def _check_tables(document: dict[str, Any], where: str) -> None:
    for family, kernel in document["kernels"].items():
        columns = kernel.get("columns", [])
        for index, row in enumerate(kernel.get("rows", ())):
            if len(row) != len(columns):
                path = f"{where}: $.kernels.{family}.rows[{index}]"
                raise InputError(f"{len(row)} numbers for {len(columns)} columns", where=path, hint=HINT)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the field {next(n for n in names if names.count(n) > 1)!r} is given twice")
    return result
