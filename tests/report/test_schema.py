"""report.json: what the schema takes, and what it refuses and how it says so."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from dtp_edge.errors import InputError
from dtp_edge.report import REPORT_SCHEMA, plain, read_report, validate_report, write_report
from dtp_edge.report.schema import SCHEMA_VERSION, filled

MINIMAL = {
    "schema_version": "1.0",
    "tool": {"name": "dtp_edge", "version": "0"},
    "versions": {"torch": "2", "onnx": "1", "onnxruntime": "1"},
    "run": {"command": "x", "seed": 0, "date": "2026-01-01", "mode": "one-shot", "machine": {}},
    "model": {"name": "net", "parameters": 3},
    "device": {
        "name": "d",
        "runtime": "r",
        "precision": "fp32",
        "provenance": "derived",
        "provenance_text": "made up",
    },
    "budgets": [],
}


def test_the_schema_is_itself_valid() -> None:
    faults = jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA)
    assert list(faults.iter_errors(REPORT_SCHEMA)) == []
    assert list(faults.iter_errors({**REPORT_SCHEMA, "type": "objekt"})) != []
    assert REPORT_SCHEMA["$id"].endswith(".json")


def test_the_example_on_disk_is_the_one_that_the_generator_makes(report: dict[str, Any]) -> None:
    stored = json.loads(Path(__file__).with_name("example_report.json").read_text())
    assert stored == json.loads(json.dumps(report))
    validate_report(stored)


def test_a_run_without_data_needs_only_seven_fields() -> None:
    validate_report(MINIMAL)
    whole = filled(MINIMAL)
    assert whole["accuracy"] is None
    assert whole["layers"] == []
    assert whole["run"]["settings"] is None
    assert "accuracy" not in MINIMAL


@pytest.mark.parametrize("field", sorted(MINIMAL))
def test_each_required_field_is_required(field: str) -> None:
    with pytest.raises(InputError, match=field):
        validate_report({k: v for k, v in MINIMAL.items() if k != field})


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("layers", 3, "dense_macs"), "many", r"\$\.layers\[3\]\.dense_macs"),
        (("layers", 3, "dense_latency_ms"), -1.0, r"\$\.layers\[3\]\.dense_latency_ms"),
        (("budgets", 0, "unit"), "seconds", r"\$\.budgets\[0\]\.unit"),
        (("groups", 1, "kept"), 2.5, r"\$\.groups\[1\]\.kept"),
        (("schema_version",), "2.0", r"\$\.schema_version"),
        (("device", "pwned"), 1, r"\$\.device"),
    ],
)
def test_a_fault_is_named_by_its_place(report: dict, path: tuple, value: object, place: str) -> None:
    target: Any = report
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(InputError, match=place):
        validate_report(report)


def test_a_newer_minor_version_is_read(report: dict[str, Any], tmp_path: Path) -> None:
    report["schema_version"] = "1.7"
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_report(tmp_path)["schema_version"] == "1.7"
    (tmp_path / "report.json").write_text(json.dumps({**report, "schema_version": "2.0"}))
    with pytest.raises(InputError, match="schema_version"):
        read_report(tmp_path)


def test_plain_takes_numpy_and_paths_and_drops_what_json_cannot_hold() -> None:
    got = plain({"a": np.float32(0.5), "b": np.arange(3), "c": (Path("x/y"), math.nan), 4: np.bool_(True)})
    assert got == {"a": 0.5, "b": [0, 1, 2], "c": ["x/y", None], "4": True}
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    with pytest.raises(InputError, match="object"):
        plain({"a": object()})


def test_plain_leaves_the_report_of_its_caller_alone(report: dict[str, Any]) -> None:
    before = copy.deepcopy(report)
    plain(report)["model"]["name"] = "other"
    assert report == before


def test_reading_refuses_what_is_not_a_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"schema_version": ')
    with pytest.raises(InputError, match="not JSON"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match="not JSON"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(InputError, match="is not of type 'object'"):
        read_report(tmp_path)


def test_a_report_of_the_schema_before_is_read_in_the_fields_of_this_one(tmp_path: Path) -> None:
    """`report_1_0.json` was written by the code before `hardness` became `softness_fraction`."""
    stored = Path(__file__).with_name("report_1_0.json")
    old, report = json.loads(stored.read_text()), read_report(stored)
    assert (old["schema_version"], report["schema_version"]) == ("1.0", SCHEMA_VERSION)
    pairs = list(zip(old["curves"], report["curves"], strict=True))
    assert sum(before["hardness"] is not None for before, _ in pairs) >= 8
    for before, now in pairs:
        assert "hardness" not in now
        if before["hardness"] is None:
            assert now["softness_fraction"] is None
        else:
            assert now["softness_fraction"] == pytest.approx(1 - before["hardness"])
    assert {**report, "curves": 0} == {**old, "curves": 0, "schema_version": SCHEMA_VERSION}
    with pytest.raises(InputError, match="hardness"):
        validate_report(old)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.json").write_text(stored.read_text())
    assert "softness of the masks" in write_report(folder, read_report(folder)).read_text()
