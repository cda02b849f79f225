"""Profiles are read as untrusted data: every bad field is refused by its path, and the shipped ones hold."""

from __future__ import annotations

import copy
import json

import pytest

from dtp_edge.cli.device_text import describe_profile
from dtp_edge.errors import InputError
from dtp_edge.fitting.recipes import recipes
from dtp_edge.measure import load_profile
from dtp_edge.profiles import (
    list_profiles,
    parse_profile,
    profile_schema,
    profiles_dir,
    save_profile,
)
from dtp_edge.profiles.schema import MAX_PROFILE_BYTES, validate_document

NAME = "rpi4-ncnn-fp32-1t"


@pytest.fixture
def document():
    return json.loads((profiles_dir() / f"{NAME}.json").read_text())


def test_published_schema_is_the_code_s_schema():
    published = json.loads((profiles_dir() / "schema.json").read_text())
    assert published == profile_schema()


@pytest.mark.parametrize("name", list_profiles())
def test_shipped_profile_loads_and_says_how_right_it_is(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.error.median_relative is not None
    assert profile.error.n >= 4
    assert profile.provenance.licence
    assert profile.provenance.recipe
    assert profile.provenance.facts.startswith(("sourced:", "recalled:"))
    assert len(profile.error_text) < 70
    assert "±" in profile.error_text
    assert profile.error.how in profile.error.text()


PROMISED = """
rpi4-ncnn-fp32-1t rpi4-ncnn-fp32-4t rpi5-ncnn-fp16-1t rpi5-ncnn-fp16-4t rpi-zero2w-ncnn-fp32-1t
rpi-zero2w-ncnn-fp32-4t jetson-nano-cpu orin-nano-cpu rk3399 rk3588 celeron-n5105 snapdragon-8gen2-cpu
pixel3-tflite stm32h747 stm32l4r5 stm32n6 galaxy-s24-hexagon ethos-u55-128 ethos-u65-256 arm-a55-generic
"""


def test_the_devices_of_the_promise_are_shipped():
    names = " ".join(list_profiles())
    assert [stem for stem in PROMISED.split() if stem not in names] == []


@pytest.mark.parametrize("name", [n for n in list_profiles() if "-ncnn-" in n])
def test_ncnn_boards_keep_their_promised_error(name):
    """15 %; of one thread 10 % was asked too, and where that is missed the next test wants it told."""
    error = load_profile(name).error
    assert error.median_relative is not None
    assert error.median_relative <= 0.15


@pytest.mark.parametrize("name", [n for n, recipe in recipes().items() if "asked_relative" in recipe])
def test_an_error_over_what_was_asked_is_told(name):
    profile, asked = load_profile(name), recipes()[name]["asked_relative"]
    assert profile.error.median_relative is not None
    missed = profile.error.median_relative > asked
    assert profile.error.notes.startswith(f"missed: asked <= {100 * asked:.0f} %, because") == missed
    if missed:
        page = " ".join(describe_profile(profile).split())
        assert f"missed: asked <= {100 * asked:.0f} %" in page


def test_narrow_profiles_are_marked():
    assert load_profile("vck190-dpu-int8").error.status == "indicative"
    assert load_profile("ethos-u55-128-vela-int8").error.status == "analytical"
    assert "narrow" in load_profile("stm32n6-npu-int8").error.notes


def _set(path, value):
    def change(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        document[last] = value

    return change


def _rename(path, old, new):
    def change(document):
        for key in path:
            document = document[key]
        document[new] = document.pop(old)

    return change


BAD = {
    "negative rate": (
        _set(["kernels", "conv1x1", "macs_per_second"], -5e9),
        "$.kernels.conv1x1.macs_per_second",
    ),
    "zero rate": (_set(["kernels", "pool", "bytes_per_second"], 0), "$.kernels.pool.bytes_per_second"),
    "missing unit": (_rename(["device"], "clock_mhz", "clock"), "$.device"),
    "missing unit of a rate": (_rename(["kernels", "conv"], "overhead_ms", "overhead"), "$.kernels.conv"),
    "nan": (_set(["graph_overhead_ms"], float("nan")), "$.graph_overhead_ms"),
    "infinity": (
        _set(["kernels", "conv", "bytes_per_second"], float("inf")),
        "$.kernels.conv.bytes_per_second",
    ),
    "unknown version": (_set(["schema_version"], 2), "$.schema_version"),
    "boolean version": (_set(["schema_version"], True), "$.schema_version"),
    "text for a number": (_set(["limits", "ram_bytes"], "4GiB"), "$.limits.ram_bytes"),
    "unknown family": (_rename(["kernels"], "conv", "conv9x9"), "$.kernels"),
    "unknown form": (_set(["kernels", "conv", "form"], "magic"), "$.kernels.conv.form"),
    "unknown precision": (_set(["precision"], "fp4"), "$.precision"),
    "empty table": (
        _set(
            ["kernels", "conv"],
            {"form": "table", "columns": ["a", "b"], "rows": [], "base": {}, "source": "x"},
        ),
        "$.kernels.conv.rows",
    ),
    "ragged table": (
        _set(
            ["kernels", "conv"],
            {"form": "table", "columns": ["a", "b"], "rows": [[1, 2], [1]], "base": {}, "source": "x"},
        ),
        "$.kernels.conv.rows[1]",
    ),
    "no licence": (lambda d: d["provenance"].pop("licence"), "$.provenance"),
    "zero threads": (_set(["threads"], 0), "$.threads"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_field_is_refused_by_its_path(case, document):
    change, path = BAD[case]
    bad = copy.deepcopy(document)
    change(bad)
    with pytest.raises(InputError) as caught:
        parse_profile(bad)
    assert (caught.value.where or "").endswith(path), caught.value.where
    parse_profile(document)  # the untouched one is fine


def test_missing_unit_names_the_likely_field(document):
    document["device"]["clock"] = document["device"].pop("clock_mhz")
    with pytest.raises(InputError, match="clock_mhz"):
        parse_profile(document)


def test_nan_in_a_file_is_refused_by_path(tmp_path, document):
    text = json.dumps(document).replace(
        f'"overhead_ms": {document["kernels"]["conv"]["overhead_ms"]}', '"overhead_ms": NaN'
    )
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError, match=r"overhead_ms.*not a finite number"):
        load_profile(tmp_path / "p.json")


def test_huge_file_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(2**30)  # sparse: a gigabyte that takes no disk
    with pytest.raises(InputError, match=str(MAX_PROFILE_BYTES)):
        load_profile(path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not valid JSON"),
        ("[]", "JSON object"),
        ('{"a": 1, "a": 2}', "given twice"),
        ("[" * 100_000, "not valid JSON"),
        ("\xff\xfe", "not valid JSON"),
    ],
)
def test_broken_json(tmp_path, text, what):
    path = tmp_path / "p.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=what):
        load_profile(path)


def test_unknown_name_offers_the_nearest():
    with pytest.raises(InputError) as caught:
        load_profile("rpi4-ncn-fp32")
    assert caught.value.exit_code == 2
    assert NAME in (caught.value.hint or "")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(InputError, match=str(tmp_path)):
            load_profile(path)


def test_save_refuses_a_bad_profile_and_leaves_nothing(tmp_path, document):
    document["kernels"]["conv"]["overhead_ms"] = -1
    with pytest.raises(InputError):
        save_profile(document, tmp_path / "p.json")
    assert list(tmp_path.iterdir()) == []


def test_save_and_load_agree(tmp_path, document):
    path = save_profile(document, tmp_path / "mine.json")
    assert load_profile(path) == load_profile(NAME)


def test_validation_names_the_source(document):
    document["threads"] = 0
    with pytest.raises(InputError, match="some/file"):
        validate_document(document, where="some/file")
