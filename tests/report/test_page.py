"""report.html as text: self-contained, small, whole, and with every foreign name harmless."""

from __future__ import annotations

import hashlib
import html.parser
import json
import os
import re
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from dtp_edge.errors import InputError
from dtp_edge.report import compare_reports, read_report, validate_report, write_report
from dtp_edge.report.page import render_page
from dtp_edge.report.sections import all_sections
from dtp_edge.report.series import MAX_CURVE, MAX_STAIRS, chart_data

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}\u2028🦜" + "x" * 10_000


class Shape(html.parser.HTMLParser):
    """Counts tags, and collects ids, attributes and the text that is not in a script or style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [v for k, v in attrs if k == "id" and v]
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.text.append(data)


def page_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def spoil(value: Any, key: str = "") -> Any:
    """Return the report with every free text in it replaced by the nasty name."""
    if isinstance(value, dict):
        return {k: spoil(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [spoil(v, key) for v in value]
    fixed = ("schema_version", "sha256", "profile_sha256", "weights_sha256", "mode", "provenance", "unit")
    return NASTY if isinstance(value, str) and key not in (*fixed, "date") else value


def test_every_section_is_there_and_ids_are_unique(report: dict[str, Any]) -> None:
    shape = Shape(render_page(report))
    assert {section.name for section in all_sections()} <= set(shape.ids)
    assert len(shape.ids) == len(set(shape.ids))


def test_nothing_is_fetched(report: dict[str, Any]) -> None:
    shape = Shape(render_page(report))
    assert not {"iframe", "object", "embed", "base"} & set(shape.tags)
    for key, value in shape.attributes:
        if key in ("src", "href", "srcset", "action"):
            assert value is not None
            assert value.startswith(("#", "data:")), value


def test_names_are_text_whatever_they_hold(report: dict[str, Any]) -> None:
    report["layers"], report["groups"] = report["layers"][:3], report["groups"][:2]
    report["memory"] = None
    clean, dirty = Shape(render_page(report)), Shape(render_page(spoil(report)))
    assert clean.tags.count("script") == dirty.tags.count("script")
    assert dirty.tags.count("img") == 3 * len(report["pictures"]["rows"])
    assert not [k for k, _ in dirty.attributes if k.startswith("on")]
    text = "".join(dirty.text)
    assert NASTY in text
    assert "&{{7*7}}" in text  # a template in a name is not run
    assert "<script>alert(1)" in page_data(render_page(spoil(report)))["layers"][0]["name"]


@pytest.mark.parametrize("lone", ["\ud800", "\x00", "‮gnp.exe"])
def test_odd_characters_do_not_stop_the_report(report: dict[str, Any], lone: str, tmp_path: Path) -> None:
    report["model"]["name"] = f"net{lone}"
    assert write_report(tmp_path, report).stat().st_size > 10_000
    read_report(tmp_path)


def test_a_300_layer_network_stays_under_two_megabytes(
    make_report: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    big = make_report(300)
    big["curves"] = big["curves"] * 40
    for group in big["groups"]:
        group["staircase"] = [{"width": w, "latency_ms": 1 + w / 7.3} for w in range(1, 129)]
    start = time.perf_counter()
    size = write_report(tmp_path, big).stat().st_size
    assert len(big["layers"]) >= 300
    assert size < 2_000_000, size
    assert time.perf_counter() - start < 10


def test_thinning_keeps_the_ends_the_jumps_and_what_was_chosen(report: dict[str, Any]) -> None:
    group = report["groups"][0]
    group.update(kept=333, total=512)
    group["staircase"] = [{"width": w, "latency_ms": 1 + w / 7.3} for w in range(1, 513)]
    report["curves"] = [{"step": i % 3000, "phase": "ab"[i // 3000], "loss": 1.0} for i in range(6000)]
    data = chart_data(report)
    widths = [w for w, _ in data["groups"][0]["stairs"]]
    assert {1, 333, 512} <= set(widths)
    assert len(widths) <= MAX_STAIRS + 2
    assert len(data["curves"]) <= MAX_CURVE + 1
    steps = [p["step"] for p in data["curves"]]
    assert steps == sorted(steps)  # the second phase counts on from the first
    flat = [{"width": w, "latency_ms": float(w // 8)} for w in range(1, 65)]
    group.update(kept=16, total=64, staircase=flat)
    stairs = dict(chart_data(report)["groups"][0]["stairs"])
    assert {w: v for w, v in stairs.items() if w in (7, 8, 15, 16)} == {7: 0.0, 8: 1.0, 15: 1.0, 16: 2.0}


def test_pictures_stand_side_by_side_inside_the_page(report: dict[str, Any]) -> None:
    page = render_page(report)
    part = page.split('<section id="pictures"')[1].split("</section>")[0]
    assert part.count(report["pictures"]["rows"][0]["dense"]) == 6
    assert 'alt="Sample 2 of the hold-out: what the pruned network says"' in part
    assert 'id="pictures"' not in render_page({**report, "pictures": None})
    report["pictures"]["rows"][0]["dense"] = "https://example.com/a.jpg"
    with pytest.raises(InputError, match="pictures"):
        validate_report(report)


def test_a_one_shot_report_says_what_it_does_not_know(report: dict[str, Any]) -> None:
    for key in ("accuracy", "memory"):
        report[key] = None
    for key in ("layers", "groups", "curves", "frozen", "checks", "files", "suggestions", "warnings"):
        report.pop(key)
    report["run"]["mode"] = "one-shot"
    text = "".join(Shape(render_page(report)).text)
    for part in ("no accuracy to report", "no costs by layer", "no memory schedule", "Nothing was trained"):
        assert part in text


def test_a_fused_layer_is_in_the_table_and_not_in_the_picture(report: dict[str, Any]) -> None:
    fused = next(layer for layer in report["layers"] if layer["fused_into"])
    drawn = [layer["name"] for layer in chart_data(report)["layers"]]
    assert fused["name"] not in drawn
    assert fused["fused_into"] in drawn
    assert fused["name"] in "".join(Shape(render_page(report)).text)


def test_files_are_whole_or_absent(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def fail_on_json(source: str, target: Path) -> None:
        if str(target).endswith(".json"):
            raise OSError("no space left")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail_on_json)
    with pytest.raises(InputError, match="no space"):
        write_report(tmp_path, report)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html"]
    monkeypatch.undo()
    report["budgets"][0]["unit"] = "furlongs"
    with pytest.raises(InputError):
        write_report(tmp_path / "new", report)
    assert not (tmp_path / "new").exists()


def test_the_vendored_libraries_are_the_ones_named() -> None:
    folder = resources.files("dtp_edge.report").joinpath("vendor")
    table = folder.joinpath("README.md").read_text()
    for name in ("d3.min.js", "plot.min.js"):
        content = folder.joinpath(name).read_bytes()
        assert hashlib.sha256(content).hexdigest() in table
        assert b"</script" not in content.lower()


def test_comparison(make_report: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Three runs of one network: the slower and less accurate one is not on the front."""
    for name, scale, accuracy in (("a", 1.0, 0.95), ("b", 0.7, 0.93), ("c", 0.9, 0.92), (NASTY[:40], 1, 0.9)):
        run = make_report()
        run["budgets"][0]["pruned_predicted"] *= scale
        run["accuracy"].update(pruned=accuracy, int8=None)
        if name == NASTY[:40]:
            run["device"]["name"] = NASTY
            run["accuracy"] = None
        write_report(tmp_path / name.replace("/", "_"), run)
    done = compare_reports(sorted(tmp_path.iterdir()), out=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == done.html
    assert {row["name"]: row["pareto"] for row in done.rows if row["accuracy"]} == {
        "a": True,
        "b": True,
        "c": False,
    }
    assert all(len(line) <= 80 for line in done.table.splitlines())
    assert "* a" in done.table
    assert "* c" not in done.table
    shape = Shape(done.html)
    assert "img" not in shape.tags
    assert NASTY in "".join(shape.text)
    assert done.write(tmp_path / "all.html").read_text() == done.html
    with pytest.raises(InputError, match="no run"):
        compare_reports([])


def test_a_text_that_ends_with_a_full_stop_gets_no_second_one(
    make_report: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    report = make_report()
    report["device"] |= {"error_text": "known to 6 %.", "provenance_text": "from a table."}
    text = "".join(Shape(write_report(tmp_path, report).read_text(encoding="utf-8")).text)
    assert "known to 6 %." in text
    assert "from a table. Error" in text
    assert ".." not in text.replace("...", "")


def test_a_run_without_masks_does_not_speak_of_them(report: dict[str, Any]) -> None:
    report.pop("calibration", None)  # the example shows all that a report can have
    assert "Masks learned from data" in render_page(report)
    assert "Loss without it" in render_page(report)
    rows = [row for row in report["curves"] if row["phase"] != "masks"]
    page = render_page(report | {"curves": rows})
    assert "Calibrated on training inputs, then trained" in page
    assert "Error without it" in page
    for word in (
        "Softness",
        "Cost of the masks",
        "Masks learned",
        "Loss without it",
        "softness of the masks, loss",
    ):
        assert word not in page, word
