"""Sections of the page are found by themselves, those of another package by an entry point."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.own_package import install, run_with
from report.example import example_report

from dtp_edge.errors import InputError
from dtp_edge.report.sections import ENTRY_POINT, _section, all_sections, sections_of

GUIDE = Path(__file__).parents[2] / "docs" / "contributing" / "report.md"
USE = """
import json
from dtp_edge.report.page import render_page
print(render_page(json.load(open({file!r}))))
"""


def test_a_section_comes_in_by_one_file_and_an_entry_point(tmp_path: Path) -> None:
    """The guide's own example, between the first section and the second."""
    (text,) = re.findall(r"```html\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    install(tmp_path, ENTRY_POINT, "maker = house:TEXT", house=f"TEXT = {text!r}")
    (tmp_path / "report.json").write_text(json.dumps(example_report()))
    page = run_with(tmp_path, USE.format(file=str(tmp_path / "report.json")))
    assert '<li><a href="#maker">Maker</a></li>' in page
    assert re.findall(r'<section id="(\w+)"', page)[:3] == ["verdict", "maker", "accuracy"]


def test_their_places_differ_and_their_ids_are_their_names() -> None:
    places = [section.place for section in all_sections()]
    assert places == sorted(set(places))
    for section in all_sections():
        assert f'<section id="{section.name}"' in section.text


def test_a_section_with_a_field_is_shown_where_the_report_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = _section("extra", "{# 15 | Extra | layers #}\n")
    monkeypatch.setattr("dtp_edge.report.sections.all_sections", lambda: (extra,))
    assert sections_of({"layers": [1]}) == [extra]
    assert sections_of({"layers": []}) == sections_of({}) == []


@pytest.mark.parametrize("text", ["<section>", "{# Title #}\n", "{# 5 | #}\n"])
def test_a_template_that_does_not_say_its_place_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="does not say where it stands") as caught:
        _section("own", text)
    assert caught.value.where == "own"
