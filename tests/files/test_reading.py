"""Files from outside: ordinary ones only, bounded before anything looks at them, and decoded."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import pytest
from helpers import giants

from dtp_edge.errors import InputError
from dtp_edge.files import LARGEST, Bounds, check_bounds, open_file, read_csv, read_json, read_text
from dtp_edge.fitting.own_latencies import latency_line
from dtp_edge.fitting.rows import read_layer_table
from dtp_edge.measure import import_results, load_profile
from dtp_edge.report import read_report
from dtp_edge.zoo import read_weights

READERS = {
    "profile": load_profile,
    "kit": import_results,
    "table": lambda path: read_csv(path, most_bytes=100, hint="h"),
    "report": read_report,
    "checkpoint": read_weights,
    "text": lambda path: read_text(path, most_bytes=100, hint="h"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket folder", "nothing", "endless"])
def test_only_ordinary_files_are_opened(tmp_path: Path, reader: str, kind: str) -> None:
    path = tmp_path / "input.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket folder":
        path.mkdir()
    elif kind != "nothing":
        path.symlink_to({"device": "/dev/null", "endless": "/dev/zero"}[kind])
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        READERS[reader](path)
    assert "input.json" in str(caught.value)
    assert caught.value.hint
    assert time.monotonic() - began < 5


def test_a_file_that_says_it_is_empty_is_still_bounded() -> None:
    endless = Path("/proc/self/maps")
    if not endless.is_file():
        pytest.skip("this system has no /proc")
    with pytest.raises(InputError, match="at most 10 are read"):
        read_text(endless, most_bytes=10, hint="h")


def test_a_file_is_read_and_closed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    with open_file(tmp_path / "a", most_bytes=3, hint="h") as file:
        assert file.read() == b"123"
    with pytest.raises(InputError, match="has 3 bytes; at most 2"):
        open_file(tmp_path / "a", most_bytes=2, hint="h")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_of_an_encoding_are_no_text(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes("network,latency_ms\nnétz,1\n".encode(encoding))
    assert read_csv(tmp_path / "t.csv", most_bytes=99, hint="h") == [{"network": "nétz", "latency_ms": "1"}]


@pytest.mark.parametrize("number", [10**400, -(10**400), 1e31, 10**31, float("inf"), float("nan")])
@pytest.mark.parametrize("place", [lambda n: n, lambda n: [1, n], lambda n: {"a": [{"b": n}]}])
def test_one_bound_for_all_numbers(number: float, place: object) -> None:
    with pytest.raises(InputError, match="number"):
        check_bounds(place(number), where="f", hint="h")  # type: ignore[operator]
    check_bounds(place(int(LARGEST)), where="f", hint="h")  # type: ignore[operator]


def test_numbers_without_an_end_are_refused_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    for change in ({"threads": 10**400}, {"networks": [{**giants.NETWORK, "latency_us": 10**400}] * 25}):
        path.write_text(json.dumps({**giants.KIT, **change}))
        with pytest.raises(InputError, match="is not a number between"):
            import_results(path)
    for field in ("threads", "graph_overhead_ms", "schema_version"):
        path.write_text(json.dumps({**giants.profile(), field: 10**400}))
        with pytest.raises(InputError, match=field):
            load_profile(path)
    for text in ("1e400", "inf", "nan", "9" * 500, "-1"):
        with pytest.raises(InputError, match="positive latency"):
            latency_line({"network": "a", "latency_ms": text}, "line 2")
    head = "net,layer,type,kind,cin,cout,kh,kw,sh,sw,groups,macs,params,in_elems,out_elems,hout,wout\n"
    (tmp_path / "l.csv").write_text(head + "a,b,c,d," + "1e999," * 12 + "1\n")
    with pytest.raises(InputError, match="line 2 is not a layer"):
        read_layer_table(tmp_path / "l.csv")


def test_the_first_fault_is_told_by_its_path() -> None:
    document = {"a": [1, {"b": "x" * 50}], "c": [[]] * 9}
    for bounds, said in (
        (Bounds(text=40), r"f: \$\.a\[1\]\.b: is a text of 50 characters"),
        (Bounds(keys=1), r"f: \$: has 2 fields"),
        (Bounds(values=8), r"f: \$\.c: has 9 items"),
        (Bounds(values=10), r"more than 10 values"),
        (Bounds(depth=2), r"f: \$\.a\[1\]: is nested too deeply"),
    ):
        with pytest.raises(InputError, match=said):
            check_bounds(document, where="f", hint="h", bounds=bounds)
    check_bounds(document, where="f", hint="h")


def test_a_field_twice_and_a_line_too_long(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"x": {"b": 1, "b": 2}}')
    with pytest.raises(InputError, match="'b' is given twice"):
        read_json(tmp_path / "a", most_bytes=99, hint="h")
    (tmp_path / "a").write_text("a,b\n1,2,\n1,2,3\n")
    with pytest.raises(InputError, match="line 3 has 3 fields for 2 columns"):
        read_csv(tmp_path / "a", most_bytes=99, hint="h")


CASES = [
    *(("profile", name, giants.PROFILES[name]) for name in ("keys", "rows of texts", "rows", "items")),
    *(("kit", name, giants.KITS[name]) for name in ("networks", "shapes")),
    *(("pruned", name, giants.PRUNEDS[name]) for name in ("nodes", "bare nodes", "tensors")),
    *(("table", name, giants.TABLES[name]) for name in ("lines", "columns", "short lines")),
]


@pytest.mark.parametrize(("kind", "name", "make"), CASES, ids=[f"{k}: {n}" for k, n, _ in CASES])
def test_four_mebibytes_take_neither_five_seconds_nor_a_gibibyte(
    tmp_path: Path, kind: str, name: str, make: giants.Callable[[], object]
) -> None:
    content = make()
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    said = giants.read(kind, content, tmp_path)
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < 2**20  # KiB
    assert said == "read" or str(tmp_path) in said or "measured" in said or "convolution" in said
